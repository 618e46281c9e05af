/* SPDX-License-Identifier: MIT */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "server/jail.h"
#include "server/latency.h"
#include "shared/explain.h"
#include "shared/log.h"
#include "shared/process.h"
#include "supervisor/device.h"
#include "supervisor/notify.h"
#include "supervisor/oom.h"
#include "supervisor/respawn.h"
#include "supervisor/ublk/device.h"

#define SEC	      UINT64_C(1000000000)
#define TICK_MS	      1000
#define STOP_RETRY_NS (10 * SEC)
#define STATUS_NS     (5 * SEC) /* between two status lines */

/* While nobody serves the device this process takes no memory: no log line, no message to the
 * manager. After so long something else is wrong, which they must hear of; and the manager's
 * watchdog (30 s in the unit, and heard of every 10 s) must not take us for dead. */
#define SILENCE_NS (15 * SEC)

struct supervisor {
	const struct config *config;
	const struct launch *launch;
	struct device device;
	struct state *state;
	struct status *status;
	struct jail jail;
	struct respawn servers;
	struct oom oom;
	struct ublk_device ublk; /* if state->ublk names one */
	int signals;		 /* signalfd */

	bool serving;	      /* the device is complete, and the manager is to know */
	bool told;	      /* ... and knows */
	uint64_t tick_ns;     /* when the next tick is due */
	uint64_t unserved_ns; /* since when no server serves; 0: one does */

	/* What the manager hears all the time. */
	char said[256];		   /* the last status line */
	uint64_t said_ns;	   /* ... and when it was sent */
	uint64_t watchdog_ns;	   /* how often it wants to hear of us; 0: not at all */
	uint64_t next_watchdog_ns; /* when it is to hear the next time */

	/* What is to be done. */
	bool stop, upgrade; /* somebody sent a signal */
	enum request asked; /* somebody wrote to a control file ... */
	int asker;	    /* ... whose server waits for an answer on this socket */
	uint64_t retry_ns;  /* when a stop by signal that failed is tried again; 0: not */
	int refused;	    /* -errno: why it could not stop, while it will be tried again */
};

/* --- the service manager --- */

struct store_fds {
	unsigned index, done;
};

static int store_fd(void *arg, const char *name, int *fd)
{
	struct store_fds *s = arg;

	if (s->index++ < s->done)
		return 0;
	if (strcmp(name, "socket") != 0 && !notify_store_fd(name, *fd))
		return -EAGAIN;
	s->done = s->index;
	return 0;
}

static int forget_fd(void *arg, const char *name, int *fd)
{
	notify_forget_fd(name);
	return 0;
}

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
	else if (s->refused)
		snprintf(text, size, "%s can't stop yet, and serves on: still in use (%s)",
			 s->config->name, strerror(-s->refused));
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

/* Each line wakes the manager and those that listen to it: only what is new, and not too often. */
static void send_status(struct supervisor *s, uint64_t now)
{
	char text[sizeof(s->said)];

	if (s->said_ns && now - s->said_ns < STATUS_NS)
		return;
	print_status(s, text, sizeof(text));
	if (strcmp(text, s->said) != 0 && notify("STATUS=%s", text)) {
		memcpy(s->said, text, sizeof(s->said));
		s->said_ns = now;
	}
}

/* From the first that the manager was too busy to take. */
static void store_fds(struct supervisor *s)
{
	struct store_fds fds = {.done = s->state->stored};

	shared_each_fd(s->state, store_fd, &fds);
	s->state->stored = fds.done;
}

static void tell_manager(struct supervisor *s)
{
	uint64_t now = now_ns();

	store_fds(s);
	if (!s->told)
		s->told = notify("READY=1");
	send_status(s, now);
	if (s->watchdog_ns && now >= s->next_watchdog_ns && notify("WATCHDOG=1"))
		s->next_watchdog_ns = now + s->watchdog_ns / 3;
}

/* --- events --- */

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
	} else {
		s->asked = request;
		s->asker = from->socket;
	}
}

static void read_signals(struct supervisor *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			s->upgrade = true;
		else
			s->stop = s->state->stopping = true;
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

	respawn_tick(&s->servers);
	silent = is_silent(s, now);
	log_hold(silent);
	if (s->state->ublk >= 0)
		ublk_device_tick(&s->ublk, s->servers.server.socket);
	if (now < s->tick_ns)
		return;
	s->tick_ns = now + TICK_MS * UINT64_C(1000000);
	if (s->retry_ns && now >= s->retry_ns)
		s->stop = true;
	if (s->config->swap && oom_tick(&s->oom, atomic_load(&s->status->failed_writes)))
		log_warning("%s can take no more pages, and the machine has no memory left: called "
			    "the OOM killer, which the kernel would not have done",
			    s->config->name);
	if (s->serving && !silent)
		tell_manager(s);
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

/* Handle events, for at most a tick. True: child, a pidfd or -1, has ended. */
static bool handle_events(struct supervisor *s, int child)
{
	struct respawn *r = &s->servers;
	int timeout = respawn_timeout(r, TICK_MS);
	struct pollfd fds[2 + 2 * SERVERS_MAX] = {{s->signals, POLLIN, 0}, {child, POLLIN, 0}};
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
	return fds[1].revents != 0;
}

/* Wait for a child while handling events. What it exited with, as -errno. */
static int await_child(struct supervisor *s, pid_t pid)
{
	int pidfd = pidfd_open(pid, 0);
	siginfo_t info = {0};

	if (pidfd < 0) { /* there would be no end to the wait */
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return -ENOMEM;
	}
	while (!handle_events(s, pidfd))
		;
	waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
	close(pidfd);
	/* Killed: by the OOM killer, most likely. */
	return info.si_code == CLD_EXITED ? -info.si_status : -ENOMEM;
}

/* A child of the supervisor's does not outlive it: it could work against those of the next one. */
static void become_child(pid_t supervisor)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != supervisor)
		_exit(EXIT_FAILURE);
	process_unhurry();
	log_forget();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Run step in a child. It logs its own failure. 0 or -errno. */
static int run_child(struct supervisor *s, int (*step)(struct device *device))
{
	pid_t supervisor = getpid(), pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		become_child(supervisor);
		_exit(-step(&s->device) & 0xff);
	}
	return await_child(s, pid);
}

/* --- start --- */

static int fail(const char *what, int err)
{
	log_error("%s: %s", what, strerror(-err));
	return err;
}

static int catch_signals(struct supervisor *s)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	s->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signals < 0 ? -errno : 0;
}

/* The memory lives on through the descriptor; only servers map it. */
static int make_arena(struct supervisor *s)
{
	struct uz_arena *arena;
	int err = uz_arena_new(s->config->size, &arena);

	if (err)
		return err;
	s->state->arena_fd = fcntl(uz_arena_fd(arena), F_DUPFD_CLOEXEC, 0);
	err = s->state->arena_fd < 0 ? -errno : 0;
	uz_arena_free(arena);
	return err;
}

/* What every supervisor needs, a first or a later one. */
static int prepare(struct supervisor *s)
{
	int err = catch_signals(s);

	if (!err)
		err = jail_init(&s->jail);
	if (err)
		return fail("can't start", err);
	oom_init(&s->oom);
	if (sd_watchdog_enabled(0, &s->watchdog_ns) > 0)
		s->watchdog_ns *= 1000; /* it has microseconds */
	respawn_init(&s->servers, s->config, s->state, s->status, &s->jail,
		     latency_open(s->config->latency_hold));
	err = process_lock_memory();
	return err ? fail("can't lock memory (it takes CAP_IPC_LOCK or LimitMEMLOCK=infinity)", err)
		   : 0;
}

/* Have a server, if there is none, and wait until it serves. */
static int start_server(struct supervisor *s)
{
	s->servers.wanted = true;
	while (!s->servers.server.ready && s->servers.wanted)
		handle_events(s, -1);
	return s->servers.wanted ? 0 : -ECHILD; /* it has said why */
}

static int make_ublk(struct supervisor *s)
{
	enum frontend frontend = s->config->frontend;
	int err;

	if (frontend == FRONTEND_FUSE || (frontend == FRONTEND_AUTO && !ublk_device_possible()))
		return 0;
	err = ublk_device_new(&s->ublk, s->state);
	if (err && frontend == FRONTEND_AUTO) {
		log_notice("going on with FUSE");
		err = 0;
	}
	return err;
}

/* Whether swap through loop can hang, see uzramd(8): its worker asks for memory, without which no
 * page goes out, and gets none below a watermark that only kswapd lowers again. */
static bool watermark_is_boosted(void)
{
	int factor = 0;
	FILE *f = fopen("/proc/sys/vm/watermark_boost_factor", "re");

	if (!f)
		return false;
	if (fscanf(f, "%d", &factor) != 1)
		factor = 0;
	fclose(f);
	return factor > 0;
}

static int start_device(struct supervisor *s)
{
	char why[EXPLAIN_MAX];
	int err = make_arena(s);

	if (err)
		return fail("can't make the arena", err);
	err = make_ublk(s);
	if (err)
		return err;
	/* Beside ublk it is for the control files alone. */
	err = front_fuse_mount(s->device.dir, s->state->ublk < 0 ? s->config->workers : 1,
			       &s->state->mount);
	if (err) {
		log_error("can't mount on %s: %s", s->device.dir,
			  explain_device("/dev/fuse", "fuse", err, why));
		return err;
	}
	err = start_server(s);
	if (err)
		return err;
	store_fds(s); /* before anybody can have pages here */
	if (state_loses_requests(s->state))
		log_warning("this kernel can't send FUSE requests again (Linux 6.9 can): if the "
			    "server dies, %s fails for good, rather than hang",
			    s->config->name);
	if (s->config->swap && s->state->ublk < 0 && watermark_is_boosted())
		log_warning("the machine may hang when its memory is used up: have frontend = "
			    "\"ublk\", or sysctl vm.watermark_boost_factor=0");
	return run_child(s, device_attach);
}

/* --- stop --- */

/* The process that wrote to the control file hears how it went. If its server has died, the next
 * server asks again. */
static void answer(struct supervisor *s, int err)
{
	if (s->asked != REQUEST_NONE &&
	    send(s->asker, &err, sizeof(err), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_warning("can't answer who asked: %s", strerror(errno));
	s->asked = REQUEST_NONE;
}

/* The same, but only if the pending request is that one. */
static void answer_to(struct supervisor *s, enum request request, int err)
{
	if (s->asked == request)
		answer(s, err);
}

/* Who sent a signal can't decide what to do about a failure: systemd, for one, now waits for us to
 * end, so that this is tried again. So it is if only the unmount fails: the device is no longer of
 * use to anybody. */
static void try_again(struct supervisor *s, int err)
{
	s->retry_ns = now_ns() + STOP_RETRY_NS;
	s->refused = err;
}

/* Take swap, loop and mount away. On failure the device goes on. */
static int stop_device(struct supervisor *s)
{
	int err;

	s->stop = false;
	s->retry_ns = 0;
	s->refused = 0;
	err = run_child(s, device_detach);
	answer_to(s, REQUEST_STOP, err);
	if (err && s->state->stopping)
		try_again(s, err);
	if (!err) {
		err = run_child(s, device_unmount);
		if (err)
			try_again(s, err);
	}
	if (err)
		log_error("not stopping: %s is still in use (%s); serving on", s->config->name,
			  strerror(-err));
	else
		notify("STOPPING=1"); /* not before: systemd takes nothing back */
	return err;
}

/* Handle events while the server is about to end. It waits for an answer to what it has asked, and
 * we wait for its end. */
static void await_change(struct supervisor *s)
{
	handle_events(s, -1);
	answer(s, -EAGAIN);
}

/* The spares first: the server's end is their beginning. */
static void end_servers(struct supervisor *s)
{
	while (!respawn_ended(&s->servers)) {
		respawn_end(&s->servers);
		await_change(s);
	}
}

/* --- upgrade --- */

/* Have a server of the new binary stand by. Everything that can go wrong with it goes wrong here,
 * where nothing has changed yet. */
static int prepare_upgrade(struct supervisor *s)
{
	struct respawn *r = &s->servers;

	respawn_upgrade(r, s->launch);
	while (!respawn_upgradable(r) && !r->failed_spares && !r->lost && !s->stop)
		handle_events(s, -1);
	if (respawn_upgradable(r))
		return 0;
	if (r->failed_spares)
		log_error("not upgrading: the server of the new uzramd %s; serving on", r->why);
	respawn_call_off(r);
	return -EPROTO;
}

static void upgrade(struct supervisor *s)
{
	int err = prepare_upgrade(s);

	s->upgrade = false;
	answer_to(s, REQUEST_UPGRADE, err);
	if (err)
		return;
	answer(s, -EAGAIN);
	s->state->upgraded = s->servers.spares[0].pid;
	handover_exec(s->launch, s->state);
	s->state->upgraded = 0;
	respawn_call_off(&s->servers);
}

/* Go through with an upgrade: the server of the new binary stands by, and is to serve. */
static int finish_upgrade(struct supervisor *s)
{
	struct respawn *r = &s->servers;

	while (!r->lost && !r->failed_spares && (respawn_renews(r) || !r->server.ready))
		await_change(s);
	if (respawn_renews(r)) {
		log_error("the server of the new uzramd %s: the old one serves on", r->why);
		respawn_call_off(r);
		return 0;
	}
	s->state->upgrades++;
	log_notice("%s is served by uzramd " UZ_VERSION " now", s->config->name);
	return 0;
}

/* This process is what another supervisor has become, or was replaced by. The old servers serve on
 * until new ones stand by (respawn.h): where the last supervisor crashed that happens while this
 * one does everything else. */
static int take_over(struct supervisor *s)
{
	bool crashed = s->state->supervisor != getpid();
	int err;

	s->state->supervisor = getpid();
	s->stop = s->state->stopping;
	s->serving = s->told = !crashed;
	respawn_adopt(&s->servers);
	if (s->state->ublk >= 0) {
		err = ublk_device_adopt(&s->ublk, s->state, s->servers.server.pid != 0);
		if (err)
			return err;
	}
	err = start_server(s);
	if (s->servers.lost)
		return 0; /* serve() knows what to do */
	if (err)
		return err;
	if (!crashed)
		return finish_upgrade(s);
	log_error("the supervisor of %s had died; this one goes on, nothing is lost",
		  s->config->name);
	return run_child(s, device_attach); /* which it may have been about to */
}

/* --- the whole --- */

/* Do what is to be done. True: that was the end. */
static bool act(struct supervisor *s)
{
	/* A server that is to end waits for the answer, and we for its end. */
	if (respawn_changes(&s->servers))
		answer(s, -EAGAIN);
	if (s->stop || s->asked == REQUEST_STOP)
		return stop_device(s) == 0;
	if (s->upgrade || s->asked == REQUEST_UPGRADE)
		upgrade(s);
	else if (s->asked == REQUEST_SLEEP)
		answer(s, run_child(s, device_sleep));
	else if (s->asked == REQUEST_WAKE)
		answer(s, run_child(s, device_wake));
	return false;
}

/* 0: it was stopped. Else it is broken, and was taken away as far as nobody uses it. */
static int serve(struct supervisor *s)
{
	s->serving = true;
	tell_manager(s);
	while (!s->servers.lost) {
		if (act(s))
			return 0;
		handle_events(s, -1);
	}
	if (run_child(s, device_detach) == 0)
		run_child(s, device_unmount);
	return -EIO;
}

static int run_new(struct supervisor *s)
{
	int lock_fd, err = device_claim(&s->device, &lock_fd);

	if (err)
		return err;
	err = shared_new(s->config, &s->state, &s->status);
	if (err) {
		device_release(&s->device);
		return fail("can't start", err);
	}
	s->state->lock_fd = lock_fd;
	s->device.state = s->state;
	err = prepare(s);
	if (err)
		return err;
	err = start_device(s);
	if (err) {
		if (s->servers.server.pid)
			stop_device(s); /* whatever part of it there is */
		return err;
	}
	log_notice("%s is ready: %s, %.0f MiB%s", s->config->name,
		   s->state->block_device[0] ? s->state->block_device : s->device.disk,
		   (double)s->config->size / 0x1p20, s->config->swap ? ", in use as swap" : "");
	return 0;
}

/* On failure the device is as the last supervisor left it, and served if its server lives. */
static int run_on(struct supervisor *s)
{
	int err = shared_map_status(s->state, &s->status);

	if (err)
		return fail("can't take over", err);
	s->device.state = s->state;
	err = prepare(s);
	return err ? err : take_over(s);
}

/* The end, of a device that is stopped, or could not be started. What is still in use stays for the
 * next start to clear away. */
static void tidy_up(struct supervisor *s)
{
	if (!s->state)
		return;
	end_servers(s);
	s->state->ended = true;
	shared_each_fd(s->state, forget_fd, NULL);
	front_fuse_close(&s->state->mount);
	if (s->state->ublk >= 0 && !s->state->block_device[0])
		ublk_device_delete(&s->ublk);
	jail_done(&s->jail);
	if (!s->state->block_device[0])
		device_release(&s->device);
}

int supervisor_main(const struct config *config, const struct launch *launch, struct state *state)
{
	struct supervisor s = {
		.config = config,
		.launch = launch,
		.state = state,
		.jail = {.root = -1, .network = -1},
	};
	int err;

	/* First of all: threads of the kernel's that work for us are to be like us. */
	if (!state || state->supervisor != getpid())
		process_protect(); /* which exec leaves as it is */
	process_hurry();
	device_init(&s.device, config);
	err = state ? run_on(&s) : run_new(&s);
	if (err && state)
		return EXIT_FAILURE;
	if (!err)
		err = serve(&s);
	tidy_up(&s);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
