/* SPDX-License-Identifier: MIT */
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "device.h"
#include "log.h"
#include "process.h"
#include "server.h"

#define TICK_MS	      1000
#define STOP_RETRY_MS 10000

/* A server that does not live this long after its start is not replaced at once, lest we do nothing
 * else. */
#define CRASH_LOOP_MS 100

struct supervisor {
	const struct config *config;
	struct device device;
	struct fuse_mount mount;
	int arena_fd;
	struct shared *shared;
	int signals;	   /* signalfd: SIGTERM, SIGINT, SIGCHLD */
	int socket[2];	   /* [0] ours, [1] the server's */
	pid_t server;	   /* 0: none */
	bool ready;	   /* the first server has said so */
	bool stop;	   /* somebody wants the device gone */
	uint64_t retry_ms; /* when a stop by signal that failed is tried again; 0: not */
	int refused;	   /* -errno: why it could not stop, while it will be tried again */
	bool stop_by_file; /* ... and waits for an answer */
	unsigned restarts;
	uint64_t started_ms; /* of the server */
	uint64_t tick_ms;    /* when the next tick is due */
	bool watchdog;	     /* systemd has one, and wants to hear of us */
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- the server --- */

static int start_server(struct supervisor *s)
{
	pid_t supervisor = getpid();
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		struct server_config config = {
			.config = s->config,
			.arena_fd = s->arena_fd,
			.mount = &s->mount,
			.shared = s->shared,
			.socket = s->socket[1],
			.again = s->ready,
		};

		/* Nobody would restart it. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != supervisor)
			_exit(EXIT_FAILURE);
		close(s->signals);
		close(s->socket[0]);
		_exit(server_main(&config));
	}
	s->server = pid;
	s->started_ms = now_ms();
	return 0;
}

static void describe_death(int status, char *text, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(text, size, "killed by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(text, size, "exited with status %d", WEXITSTATUS(status));
}

static void server_died(struct supervisor *s, int status)
{
	char how[64];
	int err;

	s->server = 0;
	describe_death(status, how, sizeof(how));
	if (!s->ready) {
		if (!WIFEXITED(status)) /* else it has said why, or we have told it to */
			log_error("the server was %s before it served", how);
		return;
	}
	s->restarts++;
	if (now_ms() - s->started_ms < CRASH_LOOP_MS)
		usleep(CRASH_LOOP_MS * 1000);
	err = start_server(s);
	log_error("the server was %s; %s", how,
		  err ? strerror(-err) : "started another, nothing is lost");
}

/* --- events --- */

static void status_line(struct supervisor *s)
{
	double stored = (double)(atomic_load(&s->shared->pages_stored) << UZ_PAGE_SHIFT);
	double compressed = (double)atomic_load(&s->shared->compr_bytes);
	double used = (double)atomic_load(&s->shared->mem_used);

	if (s->refused) {
		sd_notifyf(0, "STATUS=%s can't stop yet, and serves on: still in use (%s)",
			   s->config->name, strerror(-s->refused));
		return;
	}
	sd_notifyf(0,
		   "STATUS=%s: %.1f MiB stored, %.1f MiB compressed, %.1f MiB used, ratio %.2f, %u "
		   "restarts",
		   s->config->name, stored / 0x1p20, compressed / 0x1p20, used / 0x1p20,
		   used > 0 ? stored / used : 0, s->restarts);
}

/* A server whose main thread has not run for this long hangs, and is replaced: all of it is locked
 * in memory, so that nothing it does should take seconds. Starting, it may have a large table to
 * scan. */
#define HANG_MS	       10000
#define START_GRACE_MS 60000

static void check_heartbeat(struct supervisor *s)
{
	uint64_t now = now_ms();
	uint64_t beat = atomic_load(&s->shared->heartbeat) / 1000000;

	if (!s->server || now - s->started_ms < START_GRACE_MS || now - beat < HANG_MS)
		return;
	log_error("the server has hung for %.0f s: killing it", (double)(now - beat) / 1000);
	kill(s->server, SIGKILL);
}

static void tick(struct supervisor *s)
{
	if (!s->ready || now_ms() < s->tick_ms)
		return;
	s->tick_ms = now_ms() + TICK_MS;
	if (!s->server)
		start_server(s); /* there was no memory to fork when the last one died */
	check_heartbeat(s);
	status_line(s);
	if (s->watchdog)
		sd_notify(0, "WATCHDOG=1");
}

/* Reap what has ended; returns the status of child if that is among them, else -1. */
static int reap(struct supervisor *s, pid_t child)
{
	int status, result = -1;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == s->server)
			server_died(s, status);
		else if (pid == child)
			result = status;
	}
	return result;
}

static void read_request(struct supervisor *s)
{
	enum request request;

	if (recv(s->socket[0], &request, sizeof(request), MSG_DONTWAIT) != sizeof(request))
		return;
	if (request == REQUEST_READY)
		s->ready = true;
	else if (request == REQUEST_STOP)
		s->stop = s->stop_by_file = true;
}

/* Handle events for at most a tick. Returns the status of child if it has ended, else -1. */
static int handle_events(struct supervisor *s, pid_t child)
{
	struct pollfd fds[] = {{s->signals, POLLIN, 0}, {s->socket[0], POLLIN, 0}};
	struct signalfd_siginfo info;
	int status = -1;

	poll(fds, 2, TICK_MS);
	if (s->retry_ms && now_ms() >= s->retry_ms)
		s->stop = true;
	if (fds[1].revents)
		read_request(s);
	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD) {
			int ended = reap(s, child);

			status = ended >= 0 ? ended : status;
		} else {
			s->stop = true;
		}
	}
	tick(s);
	return status;
}

/* Run step in a child while handling events. The step logs its own failure. 0 or -errno. */
static int run_child(struct supervisor *s, int (*step)(struct device *device))
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		_exit(-step(&s->device) & 0xff);
	}
	while ((status = handle_events(s, pid)) < 0)
		;
	return WIFEXITED(status) ? -WEXITSTATUS(status)
				 : -ENOMEM; /* killed: by the OOM killer, most likely */
}

/* --- the whole --- */

static int prepare(struct supervisor *s)
{
	struct uz_arena *arena;
	sigset_t mask;
	int err;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	s->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	s->shared = mmap(NULL, sizeof(*s->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->signals < 0 || s->shared == MAP_FAILED ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->socket) < 0) {
		err = -errno;
		log_error("can't start: %s", strerror(-err));
		return err;
	}
	s->shared->since = time(NULL);
	s->watchdog = sd_watchdog_enabled(0, NULL) > 0;
	err = uz_arena_new(s->config->size, &arena);
	if (err) {
		log_error("can't make the arena: %s", strerror(-err));
		return err;
	}
	/* The memory lives on through the descriptor; only servers map it. */
	s->arena_fd = fcntl(uz_arena_fd(arena), F_DUPFD_CLOEXEC, 0);
	err = s->arena_fd < 0 ? -errno : 0;
	uz_arena_free(arena);
	if (err) {
		log_error("can't keep the arena: %s", strerror(-err));
		return err;
	}
	process_protect();
	err = process_lock_memory();
	if (err)
		log_error("can't lock memory: %s; it takes CAP_IPC_LOCK or LimitMEMLOCK=infinity",
			  strerror(-err));
	return err;
}

static int start_device(struct supervisor *s)
{
	int err = front_fuse_mount(s->device.dir, s->config->workers, &s->mount);

	if (err) {
		log_error("can't mount on %s: %s", s->device.dir, strerror(-err));
		return err;
	}
	err = start_server(s);
	while (!err && !s->ready) {
		handle_events(s, 0);
		if (!s->server)
			err = -ECHILD; /* it has said why */
	}
	return err ? err : run_child(s, device_attach);
}

/* Who wrote to the control file hears of a failure, and decides. Who sent a signal can't: systemd,
 * for one, now waits for us to end, so that this is tried again. */
static void answer_stop(struct supervisor *s, int err)
{
	if (!s->stop_by_file)
		s->retry_ms = err ? now_ms() + STOP_RETRY_MS : 0;
	else if (send(s->socket[0], &err, sizeof(err), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_warning("can't answer who asked to stop: %s", strerror(errno));
	s->stop = s->stop_by_file = false;
}

/* Take swap, loop and mount away. On failure the device goes on. */
static int stop_device(struct supervisor *s)
{
	int err;

	err = run_child(s, device_detach);
	answer_stop(s, err);
	if (!err) {
		err = run_child(s, device_unmount);
		s->retry_ms = err ? now_ms() + STOP_RETRY_MS : 0;
	}
	s->refused = s->retry_ms ? err : 0;
	if (err)
		log_error("not stopping: %s is still in use (%s); serving on", s->config->name,
			  strerror(-err));
	else
		sd_notify(0, "STOPPING=1"); /* not before: systemd takes nothing back */
	return err;
}

static void end_server(struct supervisor *s)
{
	if (!s->server)
		return;
	s->ready = false; /* its death is no crash */
	kill(s->server, SIGTERM);
	while (s->server)
		handle_events(s, 0);
}

static void serve(struct supervisor *s)
{
	sd_notify(0, "READY=1");
	log_notice("%s is ready: %s, %.0f MiB%s", s->config->name,
		   s->shared->block_device[0] ? s->shared->block_device : s->device.disk,
		   (double)s->config->size / 0x1p20, s->config->swap ? ", in use as swap" : "");
	do {
		while (!s->stop)
			handle_events(s, 0);
	} while (stop_device(s) != 0);
}

int supervisor_main(const struct config *config)
{
	struct supervisor s = {.config = config, .arena_fd = -1};
	int err;

	err = device_claim(&s.device, config);
	if (err)
		return EXIT_FAILURE;
	err = prepare(&s);
	if (!err) {
		s.device.shared = s.shared;
		err = start_device(&s);
		if (!err)
			serve(&s);
		else if (s.server)
			stop_device(&s); /* whatever part of it there is */
		end_server(&s);
	}
	front_fuse_close(&s.mount);
	device_release(&s.device);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
