/* SPDX-License-Identifier: MIT */
#include "respawn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "latency.h"
#include "log.h"
#include "server.h"

#define MSEC UINT64_C(1000000)
#define SEC  (1000 * MSEC)

/* This many servers in a row that died without having answered a request, within this time, and the
 * next ones are started later and later. */
#define FUTILE_MAX    10
#define FUTILE_WITHIN (10 * SEC)
#define DELAY_MIN     (100 * MSEC)
#define DELAY_MAX     (10 * SEC)

/* A server that starts may have a large table to scan; one that ends, a long request to answer. */
#define START_GRACE (60 * SEC)
#define END_GRACE   (20 * SEC)

static const struct server_process none = {.pidfd = -1, .socket = -1};

void respawn_init(struct respawn *r, const struct config *config, struct state *state,
		  struct status *status, const struct jail *jail, int latency)
{
	*r = (struct respawn){
		.config = config,
		.state = state,
		.status = status,
		.jail = jail,
		.latency = latency,
		.server = none,
		.spare = none,
	};
}

static void send_signal(const struct server_process *p, int signal)
{
	if (pidfd_send_signal(p->pidfd, signal, NULL, 0) < 0 && errno != ESRCH)
		log_error("can't signal process %d: %s", (int)p->pid, strerror(errno));
}

/* --- start --- */

/* The server is another one: its socket has to outlive this supervisor. */
static void set_server(struct respawn *r, const struct server_process *p)
{
	r->server = *p;
	r->server.started_ns = now_ns();
	r->state->socket = p->socket;
}

__attribute__((noreturn)) static void serve(struct respawn *r, int socket)
{
	struct server_config config = {
		.config = r->config,
		.state = r->state,
		.status = r->status,
		.jail = r->jail,
		.socket = socket,
		.latency = r->latency,
	};

	_exit(server_main(&config));
}

static int start(struct respawn *r, struct server_process *ret)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		serve(r, ends[1]);
	close(ends[1]);
	if (pid < 0) {
		int err = -errno;

		close(ends[0]);
		return err;
	}
	*ret = (struct server_process){
		.pid = pid,
		.pidfd = pidfd_open(pid, 0),
		.socket = ends[0],
		.child = true,
		.started_ns = now_ns(),
	};
	if (ret->pidfd < 0) { /* nobody would notice its death */
		int err = -errno;

		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		close(ends[0]);
		*ret = none;
		return err;
	}
	return 0;
}

static void start_server(struct respawn *r)
{
	struct server_process p = none;
	int err;

	atomic_store(&r->status->serving_ns, 0);
	err = start(r, &p);
	if (!err) {
		set_server(r, &p);
		return;
	}
	log_error("can't start a server: %s; trying again", strerror(-err));
	r->next_ns = now_ns() + DELAY_MIN;
}

/* Once the device is served: only then memory can be had in any case. */
static void start_spare(struct respawn *r)
{
	if (start(r, &r->spare))
		r->spare_ns = now_ns() + SEC; /* it can wait */
}

static void adopt(struct respawn *r, enum shared_lock lock, struct server_process *ret)
{
	pid_t pid = shared_lock_owner(r->state->status_fd, lock);

	if (!pid)
		return;
	*ret = (struct server_process){
		.pid = pid,
		.pidfd = pidfd_open(pid, 0),
		.socket = -1,
		.child = waitpid(pid, NULL, WNOHANG) == 0,
		.started_ns = now_ns(),
	};
	if (ret->pidfd < 0)
		*ret = none;
}

void respawn_adopt(struct respawn *r)
{
	adopt(r, LOCK_STAND_BY, &r->spare);
	adopt(r, LOCK_SERVING, &r->server);
	if (r->server.pid == r->spare.pid)
		r->spare = none; /* it has just become the server */
	if (r->server.pid)
		r->server.socket = r->state->socket;
	else if (r->state->socket >= 0)
		close(r->state->socket);
}

/* The one that serves is neither of ours: an earlier supervisor has started it, and died before
 * anybody could know of it. */
static void oust_stranger(struct respawn *r)
{
	pid_t pid = shared_lock_owner(r->state->status_fd, LOCK_SERVING);

	if (pid && pid != r->server.pid && pid != r->spare.pid)
		kill(pid, SIGTERM);
}

/* --- death --- */

static void describe_death(const siginfo_t *info, char *text, size_t size)
{
	if (info->si_code == CLD_EXITED)
		snprintf(text, size, "exited with status %d", info->si_status);
	else if (info->si_code == CLD_KILLED || info->si_code == CLD_DUMPED)
		snprintf(text, size, "killed by signal %d (%s)", info->si_status,
			 strsignal(info->si_status));
	else
		snprintf(text, size, "gone"); /* no child of ours */
}

/* Returns its exit status, -1 if it was killed. */
static int reap(struct server_process *p, char *how, size_t size)
{
	siginfo_t info = {0};

	if (p->child)
		waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED);
	close(p->pidfd);
	if (p->socket >= 0)
		close(p->socket);
	*p = none;
	describe_death(&info, how, size);
	return info.si_code == CLD_EXITED ? info.si_status : -1;
}

/* Count servers that die without having answered, and put the next start off if there are too
 * many. */
static void count_futile(struct respawn *r)
{
	uint64_t now = now_ns(), answerers = atomic_load(&r->status->answerers), delay;
	bool answered = answerers != r->answerers;

	r->answerers = answerers;
	if (answered) {
		r->futile = 0;
		return;
	}
	/* What came before a long quiet time does not count. */
	if (!r->futile++ || (r->futile <= FUTILE_MAX && now - r->futile_since > FUTILE_WITHIN)) {
		r->futile = 1;
		r->futile_since = now;
	}
	if (r->futile < FUTILE_MAX)
		return;
	delay = r->futile - FUTILE_MAX < 10 ? DELAY_MIN << (r->futile - FUTILE_MAX) : DELAY_MAX;
	r->next_ns = now + (delay < DELAY_MAX ? delay : DELAY_MAX);
}

static void give_up(struct respawn *r, const char *how)
{
	r->wanted = false;
	r->lost = true;
	log_error("the server was %s, and this kernel can't send again what one had not answered: "
		  "%s fails from now on",
		  how, r->state->name);
}

/* It had served, or another one before it. The log comes last: it may take memory. */
static void crashed(struct respawn *r, const char *how)
{
	const char *next = "started another";

	r->state->restarts++;
	count_futile(r);
	if (r->spare.pid) {
		set_server(r, &r->spare);
		r->spare = none;
		next = "the one that stood by goes on";
	} else if (r->next_ns <= now_ns()) {
		start_server(r);
	}
	if (r->next_ns > now_ns())
		log_error("the server was %s; %u in a row have not answered a request, the next is "
			  "started in %.1f s",
			  how, r->futile, (double)(r->next_ns - now_ns()) / (double)SEC);
	else
		log_error("the server was %s; %s", how, next);
}

void respawn_reap_server(struct respawn *r)
{
	char how[64];
	int status = reap(&r->server, how, sizeof(how));
	bool begun = state_loses_requests(r->state) && atomic_load(&r->status->serving_ns) &&
		     !atomic_load(&r->status->finished);

	r->state->socket = -1;
	if (!r->spare.pid)
		latency_drop(r->latency);
	if (status == SERVER_EXIT_LOST || begun) {
		give_up(r, how);
	} else if (r->wanted && r->state->served) {
		crashed(r, how);
	} else if (r->wanted) {
		r->wanted = false;
		if (status < 0) /* else it has said why */
			log_error("the server was %s before it served", how);
	}
}

void respawn_reap_spare(struct respawn *r)
{
	char how[64];

	reap(&r->spare, how, sizeof(how));
	if (!r->wanted || r->alone)
		return;
	log_warning("the server that stood by was %s; starting another", how);
	r->spare_ns = now_ns() + SEC;
}

/* --- the end, and all the time --- */

void respawn_end(struct respawn *r)
{
	r->wanted = false;
	if (r->spare.pid)
		send_signal(&r->spare, SIGKILL);
	else if (r->server.pid)
		send_signal(&r->server, SIGTERM);
	r->server.started_ns = now_ns();
}

void respawn_end_spare(struct respawn *r)
{
	r->alone = true;
	if (r->spare.pid)
		send_signal(&r->spare, SIGKILL);
}

bool respawn_struggles(const struct respawn *r)
{
	return r->futile >= FUTILE_MAX;
}

/* A server whose heartbeat stops hangs, and is replaced: all of it is locked in memory, so that
 * nothing it does should take seconds. */
static bool hangs(const struct respawn *r, uint64_t now)
{
	uint64_t beat = atomic_load(&r->status->heartbeat_ns);
	uint64_t limit = r->config->hang_timeout * MSEC;
	uint64_t age = now - r->server.started_ns;

	if (!r->wanted)
		return age > END_GRACE;
	if (!atomic_load(&r->status->serving_ns))
		return age > START_GRACE;
	return now > beat && now - beat > limit && age > limit;
}

void respawn_tick(struct respawn *r)
{
	uint64_t now = now_ns();

	if (r->server.pid && hangs(r, now)) {
		log_error("the server hangs: killing it");
		send_signal(&r->server, SIGKILL);
		r->server.started_ns = now; /* once is enough, for a while */
	}
	if (!r->wanted)
		return;
	if (!r->server.pid && now >= r->next_ns)
		start_server(r);
	else if (r->server.pid && !r->server.ready)
		oust_stranger(r);
	else if (r->server.pid && !r->spare.pid && now >= r->spare_ns && !r->alone &&
		 !state_loses_requests(r->state))
		start_spare(r);
}

int respawn_timeout(const struct respawn *r, int max)
{
	uint64_t now = now_ns(), ms;

	if (r->server.pid || !r->wanted)
		return max;
	if (r->next_ns <= now)
		return 0;
	ms = (r->next_ns - now) / MSEC + 1;
	return ms < (uint64_t)max ? (int)ms : max;
}
