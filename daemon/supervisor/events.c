/* SPDX-License-Identifier: MIT */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/log.h"
#include "supervisor/internal.h"

#define SEC	UINT64_C(1000000000)
#define TICK_MS 1000

/* While nobody serves the device this process takes no memory: no log line, no message to the
 * manager. After so long something else is wrong, which they must hear of; and the manager's
 * watchdog (30 s in the unit, and heard of every 10 s) must not take us for dead. */
#define SILENCE_NS (15 * SEC)

/* --- the service manager --- */

static void print_status(const struct supervisor *s, char *text, size_t size)
{
	double stored = (double)(atomic_load(&s->status->pages_stored) << UZ_PAGE_SHIFT);
	double compressed = (double)atomic_load(&s->status->compr_bytes);
	double used = (double)atomic_load(&s->status->mem_used);

	if (respawn_struggles(&s->servers))
		snprintf(text, size,
			 "%s is hardly served: the last %u servers died before they had answered a "
			 "request; trying again",
			 s->config->name, s->servers.futile);
	else if (s->state->phase == PHASE_STOPPING && s->refused)
		snprintf(text, size,
			 "%s can't stop yet, and serves on: still in use (%s). Free memory, or run "
			 "'uzramctl stop --force %s'",
			 s->config->name, strerror(-s->refused), s->config->name);
	else if (s->servers.failed_spares)
		snprintf(text, size,
			 "%s is served, but no server can stand by (it %s); trying again",
			 s->config->name, s->servers.why);
	else
		snprintf(text, size,
			 "%s: %.1f MiB stored, %.1f MiB compressed, %.1f MiB used, ratio %.2f, %u "
			 "restarts",
			 s->config->name, stored / 0x1p20, compressed / 0x1p20, used / 0x1p20,
			 used > 0 ? stored / used : 0, s->state->restarts);
}

void events_tell_manager(struct supervisor *s)
{
	char status[sizeof(s->manager.said)];

	if (s->state->stable == PHASE_STARTING)
		return; /* there is no device yet */
	if (s->state->phase != PHASE_SERVING && s->state->phase != PHASE_ASLEEP)
		manager_ask_for_time(&s->manager);
	print_status(s, status, sizeof(status));
	manager_tick(&s->manager, s->state, status);
}

/* --- servers and signals --- */

/* Where requests were lost with a server, those who wait for them would do so for ever, a child of
 * ours that swaps off among them. */
static void server_died(struct supervisor *s)
{
	pid_t pid;

	log_hold(true);
	/* The kernel resends the pending control write to the next server, which asks us again. */
	if (s->asker == s->servers.server.socket)
		s->asked = REQUEST_NONE;
	respawn_reap_server(&s->servers);
	ublk_device_lost(&s->ublk);
	if (!s->servers.lost)
		return;
	pid = fork();
	if (pid == 0)
		log_forget(); /* and log what it has to say itself */
	if (pid <= 0)
		device_abort(&s->device);
	if (pid == 0)
		_exit(EXIT_SUCCESS);
}

static void read_request(struct supervisor *s, struct server_process *from)
{
	enum request request;

	if (recv(from->socket, &request, sizeof(request), MSG_DONTWAIT) != sizeof(request))
		return;
	if (request == REQUEST_STANDS_BY) {
		respawn_stands_by(&s->servers, from);
	} else if (request == REQUEST_READY) {
		from->ready = s->state->served = true;
		s->state->no_resend = atomic_load(&s->status->no_resend);
	} else if (request == REQUEST_STOP_CANCEL) {
		s->cancel = true; /* the request to cancel is still being asked */
	} else {
		s->asked = request;
		s->asker = from->socket;
	}
}

/* systemd's last process, which PID 1 becomes, sends SIGTERM to all others. */
static bool machine_goes_down(const struct signalfd_siginfo *info)
{
	char name[16] = "";
	FILE *f = info->ssi_pid == 1 ? fopen("/proc/1/comm", "re") : NULL;

	if (!f)
		return false;
	if (!fgets(name, sizeof(name), f))
		name[0] = '\0';
	fclose(f);
	return strncmp(name, "systemd-shutdow", 15) == 0;
}

static void read_signals(struct supervisor *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			s->signal_upgrade = true;
		else if (machine_goes_down(&info))
			s->shutdown = true;
		else
			s->signal_stop = true;
	}
}

/* Whether the device has been served, is to be, and is not at the moment, and since not too long
 * ago. */
static bool is_silent(struct supervisor *s, uint64_t now)
{
	const struct respawn *r = &s->servers;

	if (!s->state->served || !r->wanted || (r->server.ready && !r->server.told_ns)) {
		s->unserved_ns = 0;
		return false;
	}
	if (!s->unserved_ns)
		s->unserved_ns = now;
	return now - s->unserved_ns < SILENCE_NS;
}

static void tick(struct supervisor *s)
{
	uint64_t now = now_ns();
	bool silent;

	if (s->state->phase == PHASE_ENDING)
		respawn_end(&s->servers);
	respawn_tick(&s->servers);
	child_tick(&s->child);
	silent = is_silent(s, now);
	log_hold(silent);
	if (s->state->ublk >= 0)
		ublk_device_tick(&s->ublk, respawn_serving_socket(&s->servers));
	if (now < s->tick_ns)
		return;
	s->tick_ns = now + TICK_MS * UINT64_C(1000000);
	if (s->config->swap && oom_tick(&s->oom, atomic_load(&s->status->failed_writes)))
		log_warning("%s can take no more pages, and the machine has no memory left: called "
			    "the OOM killer, which the kernel would not have done",
			    s->config->name);
	if (!silent)
		events_tell_manager(s);
}

/* A server's death, or what it says. */
static void handle_servers(struct supervisor *s, const struct pollfd fds[2 * SERVERS_MAX])
{
	const struct pollfd *deaths = fds, *sockets = fds + SERVERS_MAX;
	struct respawn *r = &s->servers;

	/* Deaths first, and alone: they change whose sockets these are. The last in the queue
	 * first: one that is dead must not be taken for the next. */
	for (unsigned i = SPARES; i-- > 0;) {
		if (deaths[1 + i].revents) {
			respawn_reap_spare(r, i);
			return;
		}
	}
	if (deaths[0].revents) {
		server_died(s);
		return;
	}
	if (sockets[0].revents)
		read_request(s, &r->server);
	for (unsigned i = 0; i < SPARES; i++) {
		if (sockets[1 + i].revents)
			read_request(s, &r->spares[i]);
	}
}

void events_wait(struct supervisor *s)
{
	struct respawn *r = &s->servers;
	int timeout = respawn_timeout(r, TICK_MS);
	struct pollfd fds[2 + 2 * SERVERS_MAX] = {
		{s->signals, POLLIN, 0},
		{s->child.pid ? s->child.pidfd : -1, POLLIN, 0},
	};
	struct pollfd *servers = fds + 2;

	for (unsigned i = 0; i < SERVERS_MAX; i++) {
		const struct server_process *p = i ? &r->spares[i - 1] : &r->server;

		servers[i] = (struct pollfd){p->pidfd, POLLIN, 0};
		servers[SERVERS_MAX + i] = (struct pollfd){p->socket, POLLIN, 0};
	}
	if (s->state->ublk >= 0)
		timeout = ublk_device_timeout(&s->ublk, timeout);
	poll(fds, 2 + 2 * SERVERS_MAX, timeout);
	if (fds[0].revents)
		read_signals(s);
	handle_servers(s, servers);
	tick(s);
}

/* Whether swap is to be off while the machine sleeps. */
static bool sleeps(const struct config *config)
{
	return config->swap && config->swap_off_for_sleep;
}

bool events_has(const struct supervisor *s, enum event event)
{
	const struct respawn *r = &s->servers;

	switch (event) {
	case EVENT_SHUTDOWN:
		return s->shutdown;
	case EVENT_LOST:
		return r->lost;
	case EVENT_DONE:
		return s->child.over && !s->child.err;
	case EVENT_FAILED:
		return s->child.over && s->child.err;
	case EVENT_NO_SERVER:
		return !r->wanted;
	case EVENT_GONE:
		return respawn_ended(r);
	case EVENT_SERVED:
		return r->server.ready;
	case EVENT_STANDS_BY:
		return respawn_upgradable(r);
	case EVENT_NO_STAND_BY:
		return r->failed_spares;
	case EVENT_RENEWED:
		return r->server.ready && !respawn_renews(r);
	case EVENT_SIGNAL_STOP:
		return s->signal_stop;
	case EVENT_SIGNAL_UPGRADE:
		return s->signal_upgrade;
	case EVENT_CANCEL:
		return s->cancel;
	case EVENT_STOP:
		return s->asked == REQUEST_STOP;
	case EVENT_STOP_FORCED:
		return s->asked == REQUEST_STOP_FORCE;
	case EVENT_UPGRADE:
		return s->asked == REQUEST_UPGRADE;
	case EVENT_SLEEP:
		return s->asked == REQUEST_SLEEP && sleeps(s->config);
	case EVENT_SLEEP_NEEDLESS:
		return s->asked == REQUEST_SLEEP && !sleeps(s->config);
	case EVENT_WAKE:
		return s->asked == REQUEST_WAKE;
	case EVENT_RESET:
		return s->asked == REQUEST_RESET;
	case EVENT_DUE:
		return s->due_ns && now_ns() >= s->due_ns;
	default:
		return false;
	}
}
