/* SPDX-License-Identifier: MIT */
#include "supervisor/respawn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/server.h"
#include "shared/log.h"
#include "supervisor/latency_device.h"

#define MSEC UINT64_C(1000000)
#define SEC  (1000 * MSEC)

/* This many servers in a row that died without having answered a request, within this time, and the
 * next ones are started later and later. */
#define FUTILE_MAX    10
#define FUTILE_WITHIN (10 * SEC)
#define DELAY_MIN     (100 * MSEC)
#define DELAY_MAX     (10 * SEC)

/* A server that ends may have a long request to answer. One that starts has tables to make or to
 * scan, which takes some 30 ms a GiB stored on a quiet machine. */
#define END_GRACE	      (20 * SEC)
#define START_GRACE	      (60 * SEC)
#define START_GRACE_PER_GIB   SEC
#define SPARE_DELAY_MIN	      SEC
#define SPARE_DELAY_DOUBLINGS 6 /* about a minute */

/* How often the heartbeat is looked at, which is as often as it beats; and the most that may count
 * as passed since the last look. The rest of it is time in which this process did not run either:
 * everything was frozen, or the hypervisor gave this machine no time. */
#define LOOK_NS	    SEC
#define LOOK_MAX_NS (2 * SEC)

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
	};
	for (unsigned i = 0; i < SPARES; i++)
		r->spares[i] = none;
}

static void send_signal(const struct server_process *p, int signal)
{
	if (pidfd_send_signal(p->pidfd, signal, NULL, 0) < 0 && errno != ESRCH)
		log_error("can't signal process %d: %s", (int)p->pid, strerror(errno));
}

/* Once: there may be no process. */
static void tell_to_end(struct server_process *p, int signal)
{
	if (!p->pid || p->told_ns)
		return;
	p->told_ns = now_ns();
	send_signal(p, signal);
}

/* Write down which processes there are: they outlive this supervisor. */
static void note(struct respawn *r)
{
	struct kept_server *kept = r->state->servers;

	kept[0] = (struct kept_server){r->server.pid, r->server.socket};
	for (unsigned i = 0; i < SPARES; i++)
		kept[1 + i] = (struct kept_server){r->spares[i].pid, r->spares[i].socket};
}

static void remove_spare(struct respawn *r, unsigned i)
{
	for (; i + 1 < SPARES; i++)
		r->spares[i] = r->spares[i + 1];
	r->spares[SPARES - 1] = none;
}

/* --- start --- */

/* Whether to tell of a failure, n of which in a row came before it. */
static bool is_worth_a_line(unsigned n)
{
	return (n & (n + 1)) == 0;
}

__attribute__((noreturn)) static void be_server(struct respawn *r, int socket)
{
	struct server_config config = {
		.config = r->config,
		.state = r->state,
		.status = r->status,
		.jail = r->jail,
		.socket = socket,
		.latency = r->latency,
	};

	log_forget();
	_exit(server_main(&config));
}

/* In the child. It is killed with this supervisor until it has seen to that itself. */
__attribute__((noreturn)) static void be_upgraded_server(struct respawn *r, int socket)
{
	log_forget();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(-handover_exec_stand_by(r->upgrade, r->state, socket) & 0xff);
}

static int start(struct respawn *r, bool upgraded, struct server_process *ret)
{
	struct server_process p = none;
	int ends[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	p.pid = fork();
	if (p.pid == 0 && upgraded)
		be_upgraded_server(r, ends[1]);
	if (p.pid == 0)
		be_server(r, ends[1]);
	err = p.pid < 0 ? -errno : 0;
	close(ends[1]);
	if (!err) {
		p.pidfd = pidfd_open(p.pid, 0);
		if (p.pidfd < 0) { /* its death would go unnoticed */
			err = -errno;
			kill(p.pid, SIGKILL);
			waitpid(p.pid, NULL, 0);
		}
	}
	if (err) {
		close(ends[0]);
		return err;
	}
	p.socket = ends[0];
	p.child = true;
	p.started_ns = now_ns();
	*ret = p;
	return 0;
}

static void start_server(struct respawn *r)
{
	int err;

	atomic_store(&r->status->serving_ns, 0);
	err = start(r, false, &r->server);
	note(r);
	if (!err) {
		r->failed_servers = 0;
		return;
	}
	r->next_ns = now_ns() + DELAY_MIN;
	if (is_worth_a_line(r->failed_servers++))
		log_error("can't start a server: %s; trying again", strerror(-err));
}

/* Tries come more and more slowly. */
static void spare_failed(struct respawn *r, const char *how)
{
	unsigned n = r->failed_spares++;

	snprintf(r->why, sizeof(r->why), "%s", how);
	r->spare_ns = now_ns() +
		      (SPARE_DELAY_MIN << (n < SPARE_DELAY_DOUBLINGS ? n : SPARE_DELAY_DOUBLINGS));
	if (!r->upgrade && is_worth_a_line(n))
		log_warning("a server that was to stand by %s; trying again", how);
}

static void start_spare(struct respawn *r, struct server_process *vacancy)
{
	char how[64];
	int err = start(r, r->upgrade != NULL, vacancy);

	note(r);
	if (!err)
		return;
	snprintf(how, sizeof(how), "can't be started: %s", strerror(-err));
	spare_failed(r, how);
}

/* Where the next spare is to be; NULL: none is wanted now. One prepares at a time: each is there
 * the sooner. */
static struct server_process *vacancy(struct respawn *r)
{
	unsigned wanted = SPARES;

	if (state_loses_requests(r->state))
		wanted = respawn_renews(r); /* the only thing that another server is of use for */
	if (r->upgrade && r->spares[0].pid && !r->spares[0].old)
		return NULL;
	for (unsigned i = 0; i < wanted; i++) {
		if (!r->spares[i].pid)
			return &r->spares[i];
		if (!r->spares[i].stands_by)
			return NULL;
	}
	return NULL;
}

/* --- adopt --- */

static int socket_to(const struct state *state, pid_t pid)
{
	for (unsigned i = 0; i < SERVERS_MAX; i++) {
		if (state->servers[i].pid == pid)
			return state->servers[i].socket;
	}
	return -1;
}

/* Without a descriptor the death of a server would go unnoticed; and it is served meanwhile: so
 * this waits for the memory that one takes. -1: there is no such process. */
static int watch(pid_t pid)
{
	const struct timespec pause = {.tv_nsec = (long)DELAY_MIN};
	unsigned failed = 0;
	int fd;

	while ((fd = pidfd_open(pid, 0)) < 0 && errno != ESRCH && errno != EINVAL) {
		if (is_worth_a_line(failed++))
			log_error("can't watch the server %d: %s; trying again", (int)pid,
				  strerror(errno));
		nanosleep(&pause, NULL);
	}
	return fd;
}

static struct server_process adopt(struct respawn *r, enum shared_lock lock)
{
	pid_t pid = shared_lock_owner(r->state->status_fd, lock);
	struct server_process p = none;
	int pidfd = pid ? watch(pid) : -1;

	if (pidfd < 0)
		return none;
	p.pid = pid;
	p.pidfd = pidfd;
	p.socket = socket_to(r->state, pid);
	p.child = waitpid(pid, NULL, WNOHANG) == 0;
	p.old = pid != r->state->upgraded;
	p.stands_by = true;
	p.ready = lock == LOCK_SERVING && atomic_load(&r->status->serving_ns);
	p.started_ns = now_ns();
	return p;
}

static bool knows(const struct respawn *r, pid_t pid)
{
	bool known = pid == r->server.pid;

	for (unsigned i = 0; i < SPARES; i++)
		known |= pid == r->spares[i].pid;
	return known;
}

void respawn_adopt(struct respawn *r)
{
	struct server_process found[2 * SERVERS_MAX];
	unsigned n = 0;

	/* From the end of the queue: none moves up past us unseen, but one may be seen twice. One
	 * that steps back meanwhile is seen the second time. */
	for (unsigned i = 0; i < 2 * SERVERS_MAX; i++)
		found[i] = adopt(r, SERVERS_MAX - 1 - i % SERVERS_MAX);
	/* Who serves is the first of them. */
	for (unsigned i = 2 * SERVERS_MAX; i-- > 0;) {
		if (!found[i].pid)
			continue;
		if (knows(r, found[i].pid) || n > SPARES)
			close(found[i].pidfd);
		else if (n++ == 0)
			r->server = found[i];
		else
			r->spares[n - 2] = found[i];
	}
	for (unsigned i = 0; i < SERVERS_MAX; i++) {
		const struct kept_server *k = &r->state->servers[i];

		if (k->socket >= 0 && !(k->pid && knows(r, k->pid)))
			close(k->socket);
	}
	r->state->upgraded = 0;
	note(r);
}

/* A server that an earlier supervisor has started, and of which that one could tell nobody, would
 * keep ours from their turn. */
static void oust_strangers(struct respawn *r)
{
	for (unsigned lock = 0; lock < SHARED_LOCKS; lock++) {
		pid_t pid = shared_lock_owner(r->state->status_fd, lock);

		if (pid && !knows(r, pid))
			kill(pid, lock == LOCK_SERVING ? SIGTERM : SIGKILL);
	}
}

/* --- renewal --- */

void respawn_upgrade(struct respawn *r, const struct launch *launch)
{
	r->upgrade = launch;
	r->failed_spares = 0;
	r->spare_ns = 0;
	r->server.old = true;
	for (unsigned i = 0; i < SPARES; i++)
		r->spares[i].old = r->spares[i].pid != 0;
}

bool respawn_upgradable(const struct respawn *r)
{
	return r->server.pid && r->spares[0].pid && !r->spares[0].old && r->spares[0].stands_by;
}

void respawn_stands_by(struct respawn *r, struct server_process *p)
{
	p->stands_by = true;
	r->failed_spares = 0;
}

void respawn_call_off(struct respawn *r)
{
	for (unsigned i = 0; i < SPARES; i++) {
		if (r->spares[i].pid && !r->spares[i].old)
			tell_to_end(&r->spares[i], SIGKILL);
		r->spares[i].old = false;
	}
	r->server.old = false;
	r->upgrade = NULL;
	r->failed_spares = 0;
	r->spare_ns = 0;
}

bool respawn_renews(const struct respawn *r)
{
	bool old = r->server.old;

	for (unsigned i = 0; i < SPARES; i++)
		old |= r->spares[i].old;
	return old;
}

bool respawn_changes(const struct respawn *r)
{
	return r->wanted && r->server.told_ns;
}

/* The next step of a renewal, if it is time for one. The last of an upgrade is the next
 * supervisor's. */
static void renew(struct respawn *r)
{
	struct server_process *first = &r->spares[0], *second = &r->spares[1];

	if (second->old)
		tell_to_end(second, SIGKILL); /* the new one takes its place */
	else if (first->old && !first->stands_by)
		tell_to_end(first, SIGKILL); /* of no use yet, and it may never be */
	else if (first->old && second->stands_by)
		tell_to_end(first, SIGKILL); /* ... and moves up */
	else if (r->server.old && !r->upgrade && !first->old && first->stands_by)
		tell_to_end(&r->server, SIGTERM);
}

/* --- death --- */

static void describe_death(const siginfo_t *info, char *text, size_t size)
{
	if (info->si_code == CLD_EXITED)
		snprintf(text, size, "exited with status %d", info->si_status);
	else if (info->si_code == CLD_KILLED || info->si_code == CLD_DUMPED)
		snprintf(text, size, "was killed by signal %d (%s)", info->si_status,
			 strsignal(info->si_status));
	else
		snprintf(text, size, "is gone"); /* no child of ours */
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
	log_error("the server %s, and this kernel can't send again what one had not answered: "
		  "%s fails from now on",
		  how, r->state->name);
}

static void put_first(struct respawn *r, unsigned i)
{
	struct server_process first = r->spares[i];

	r->spares[i] = r->spares[0];
	r->spares[0] = first;
}

/* -1: it is none of the spares. */
static int spare_of(const struct respawn *r, pid_t pid)
{
	for (unsigned i = 0; i < SPARES; i++) {
		if (pid && r->spares[i].pid == pid)
			return (int)i;
	}
	return -1;
}

/* Spares change places among themselves. */
static void find_heir(struct respawn *r)
{
	for (unsigned lock = 0; lock < SHARED_LOCKS; lock++) {
		int i = spare_of(r, shared_lock_owner(r->state->status_fd, lock));

		if (i >= 0) {
			put_first(r, (unsigned)i);
			return;
		}
	}
}

/* The first spare goes on. */
static void promote(struct respawn *r)
{
	find_heir(r);
	r->server = r->spares[0];
	r->server.started_ns = now_ns();
	r->stale_ns = r->stale_looks = 0;
	remove_spare(r, 0);
	note(r);
}

/* It had served, or another one before it. */
static void crashed(struct respawn *r, const char *how)
{
	const char *next = "started another";

	r->state->restarts++;
	count_futile(r);
	if (r->spares[0].pid) {
		next = r->spares[0].stands_by ? "the one that stood by goes on"
					      : "the one that prepares to stand by goes on";
		promote(r);
	} else if (r->next_ns <= now_ns()) {
		start_server(r);
	}
	if (r->next_ns > now_ns())
		log_error("the server %s; %u in a row have not answered a request, the next is "
			  "started in %.1f s",
			  how, r->futile, (double)(r->next_ns - now_ns()) / (double)SEC);
	else
		log_error("the server %s; %s", how, next);
}

void respawn_reap_server(struct respawn *r)
{
	bool told = r->server.told_ns, child = r->server.child;
	char how[64];
	int status = reap(&r->server, how, sizeof(how));
	bool ended_well = told && (status == EXIT_SUCCESS || !child);
	/* One that stands by finds out for itself whether it comes too late. */
	bool begun = state_loses_requests(r->state) && atomic_load(&r->status->serving_ns) &&
		     !atomic_load(&r->status->finished) && !r->spares[0].pid;

	note(r);
	if (!r->spares[0].pid)
		latency_drop(r->latency);
	if (status == SERVER_EXIT_LOST || begun) {
		give_up(r, how);
	} else if (r->wanted && ended_well && r->spares[0].pid) {
		promote(r);
	} else if (r->wanted && r->state->served) {
		crashed(r, how);
	} else if (r->wanted) {
		r->wanted = false;
		if (status < 0) /* else it has said why */
			log_error("the server %s before it served", how);
	}
}

void respawn_reap_spare(struct respawn *r, unsigned i)
{
	bool told = r->spares[i].told_ns, stood_by = r->spares[i].stands_by;
	char how[64];

	reap(&r->spares[i], how, sizeof(how));
	remove_spare(r, i);
	note(r);
	if (!r->wanted || told)
		return;
	if (!stood_by) {
		spare_failed(r, how);
		return;
	}
	log_warning("a server that stood by %s; starting another", how);
	r->spare_ns = now_ns() + SPARE_DELAY_MIN;
}

/* --- the end, and all the time --- */

void respawn_end(struct respawn *r)
{
	r->wanted = false;
	for (unsigned i = 0; i < SPARES; i++)
		tell_to_end(&r->spares[i], SIGKILL);
	if (!r->spares[0].pid)
		tell_to_end(&r->server, SIGTERM);
}

bool respawn_ended(const struct respawn *r)
{
	return !r->server.pid && !r->spares[0].pid;
}

bool respawn_struggles(const struct respawn *r)
{
	return r->futile >= FUTILE_MAX && atomic_load(&r->status->answerers) == r->answerers;
}

/* Whether it waits for its turn. One that is about to die holds no lock any more, though it may yet
 * take a while to end. */
static bool is_waiting(const struct respawn *r, pid_t pid)
{
	int fd = r->state->status_fd;

	return pid && (shared_lock_owner(fd, LOCK_STAND_BY) == pid ||
		       shared_lock_owner(fd, LOCK_NEXT) == pid);
}

/* The servers themselves decide who of them goes on: it may have been another one than promote()
 * expected, if they changed places just then. */
static void follow_queue(struct respawn *r)
{
	struct server_process expected = r->server;
	int i = spare_of(r, shared_lock_owner(r->state->status_fd, LOCK_SERVING));

	if (i < 0 || !is_waiting(r, expected.pid))
		return;
	r->server = r->spares[i];
	r->server.started_ns = expected.started_ns;
	r->spares[i] = expected;
	note(r);
}

int respawn_serving_socket(const struct respawn *r)
{
	pid_t serving = shared_lock_owner(r->state->status_fd, LOCK_SERVING);

	return serving && serving == r->server.pid ? r->server.socket : -1;
}

static uint64_t start_grace(const struct respawn *r)
{
	return START_GRACE + (r->state->disksize >> 30) * START_GRACE_PER_GIB;
}

static void look_at_heartbeat(struct respawn *r, uint64_t now)
{
	uint64_t beat = atomic_load(&r->status->heartbeat_ns), passed = now - r->look_ns;

	r->look_ns = now;
	if (beat != r->beat || !atomic_load(&r->status->serving_ns)) {
		r->beat = beat;
		r->stale_ns = r->stale_looks = 0;
		return;
	}
	r->stale_ns += passed < LOOK_MAX_NS ? passed : LOOK_MAX_NS;
	r->stale_looks++;
}

/* A server whose heartbeat stops hangs, and is replaced: all of it is locked in memory, so that
 * nothing it does should take seconds. A slow machine is no reason: it takes three looks at least.
 */
static bool hangs(const struct respawn *r, uint64_t now)
{
	uint64_t age = now - r->server.started_ns;

	if (r->server.told_ns)
		return now - r->server.told_ns > END_GRACE;
	if (!atomic_load(&r->status->serving_ns))
		return age > start_grace(r);
	return r->stale_looks > 2 && r->stale_ns > r->config->hang_timeout * MSEC;
}

/* Where the kernel can't send requests again, to kill the server is to lose all pages. It may yet
 * go on. */
static void replace_hanging(struct respawn *r, uint64_t now)
{
	bool wait = r->wanted && state_loses_requests(r->state);

	log_error(wait ? "the server hangs: waiting for it, since this kernel can't send again "
			 "what it has not answered"
		       : "the server hangs: killing it");
	if (!wait)
		send_signal(&r->server, SIGKILL);
	/* Once is enough, for a while. */
	r->stale_ns = r->stale_looks = 0;
	r->server.started_ns = now;
	if (r->server.told_ns)
		r->server.told_ns = now;
}

static void watch_spares(struct respawn *r, uint64_t now)
{
	for (unsigned i = 0; i < SPARES; i++) {
		struct server_process *p = &r->spares[i];

		if (p->pid && !p->stands_by && now - p->started_ns > start_grace(r)) {
			p->started_ns = now;
			send_signal(p, SIGKILL);
		}
	}
}

static void look(struct respawn *r, uint64_t now)
{
	look_at_heartbeat(r, now);
	if (r->server.pid && hangs(r, now))
		replace_hanging(r, now);
	watch_spares(r, now);
	if (r->wanted)
		oust_strangers(r);
	/* One of an earlier supervisor's can't say so itself. */
	if (r->server.pid && r->server.socket < 0 && atomic_load(&r->status->serving_ns))
		r->server.ready = true;
}

void respawn_tick(struct respawn *r)
{
	uint64_t now = now_ns();
	struct server_process *place;

	follow_queue(r);
	if (now - r->look_ns >= LOOK_NS)
		look(r, now);
	if (!r->wanted)
		return;
	if (!r->server.pid) {
		if (now >= r->next_ns)
			start_server(r);
		return;
	}
	/* Only while the device is served memory can be had in any case. */
	if (!r->server.ready || r->server.told_ns)
		return;
	renew(r);
	place = vacancy(r);
	if (place && now >= r->spare_ns && !r->server.told_ns)
		start_spare(r, place);
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
