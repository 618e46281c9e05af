/* SPDX-License-Identifier: MIT */
#include "server/server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/crash.h"
#include "server/control/attributes.h"
#include "server/front/fuse.h"
#include "server/front/ublk.h"
#include "server/jail.h"
#include "server/latency.h"
#include "server/shortage.h"
#include "shared/explain.h"
#include "shared/log.h"
#include "shared/process.h"
#include "uzram/store.h"

#define HEARTBEAT_SECONDS 1
#define WARM_SECONDS	  1
#define ALONE_SECONDS	  10
#define ORPHAN_SECONDS	  60 /* between two complaints */
#define FRONTS_MAX	  2

/* The kernel sends it when the supervisor dies (PR_SET_PDEATHSIG). */
#define SIGNAL_ORPHAN SIGUSR1

struct server {
	const struct server_config *sc;
	const struct state *state; /* read-only */
	/* A copy: a later supervisor, whose descriptors have other numbers, writes those into the
	 * state. */
	int status_fd;
	struct uz_store *store;
	struct latency latency;
	struct front_context context;
	struct shortage shortage;
	struct front *fronts[FRONTS_MAX];
	unsigned nfronts;
};

/* --- start --- */

static int server_failed(const char *what, int err)
{
	char why[EXPLAIN_MAX];

	log_error("%s: %s", what, explain_error(err, why));
	return err;
}

/* Close all of the supervisor's descriptors but those that serving takes. */
static int keep_descriptors(struct server *s)
{
	const struct state *state = s->sc->state;
	int keep[PROCESS_KEEP_MAX] =
		{
			STDIN_FILENO,	    STDOUT_FILENO,     STDERR_FILENO,
			state->state_ro_fd, state->status_fd,  state->arena_fd,
			state->lock_fd, /* the name is taken while a server lives */
			s->sc->socket,	    s->sc->jail->root, s->sc->jail->network,
			s->sc->latency,
		};
	unsigned n = 11;

	for (unsigned i = 0; i < state->mount.nfds; i++)
		keep[n++] = state->mount.fds[i];
	return process_keep_fds(keep, n);
}

static int map_state(struct server *s)
{
	int err = shared_map_readonly(s->sc->state->state_ro_fd, &s->state);

	s->status_fd = s->sc->state->status_fd;

	if (!err)
		munmap((void *)(uintptr_t)s->sc->state, sizeof(*s->state));
	return err;
}

static int prepare_store(struct server *s)
{
	const struct config *c = s->sc->config;
	struct uz_store_config store = {
		.size = sizeof(store),
		.codec = c->algorithm,
		.level = c->level,
		.mem_limit = c->mem_limit,
		.reserve = c->reserve,
		.populators = c->workers > 1, /* other workers serve on meanwhile */
		.compact = true,
		.deferred = c->deferred,
		.defer_spares = c->deferred_pool,
		.defer_age_ms = c->deferred_age,
	};
	int err = uz_arena_attach(s->state->arena_fd, &store.arena);

	if (!err && uz_arena_disksize(store.arena) != s->state->disksize) {
		uz_arena_free(store.arena);
		err = -EPROTO;
	}
	if (err)
		return err;
	err = uz_store_prepare(&store, &s->store);
	if (err)
		uz_arena_free(store.arena);
	return err;
}

/* Give up what is the supervisor's: descriptors, the state that can be written, and the world. */
static int isolate(struct server *s)
{
	int err = keep_descriptors(s);

	prctl(PR_SET_PDEATHSIG, SIGNAL_ORPHAN);
	if (!err)
		err = map_state(s);
	if (err)
		return server_failed("can't keep to the server's descriptors", err);
	return jail_enter(s->sc->jail); /* it says why */
}

static int add_front(struct server *s, const struct front_ops *ops)
{
	int err = ops->prepare(&s->context, &s->fronts[s->nfronts]);

	s->nfronts += !err;
	return err;
}

/* Get all memory and all threads, while there are privileges; then give these up. */
static int prepare_server(struct server *s)
{
	int err;

	process_keep_heap();
	process_small_stacks();
	err = process_lock_memory();
	if (err)
		return server_failed(
			"can't lock memory (it takes CAP_IPC_LOCK or LimitMEMLOCK=infinity)", err);
	err = prepare_store(s);
	if (err)
		return server_failed("can't open the store", err);
	s->context = (struct front_context){
		.state = s->state,
		.status = s->sc->status,
		.store = s->store,
		.latency = &s->latency,
		.socket = s->sc->socket,
		.answered = ATOMIC_FLAG_INIT,
	};
	err = latency_init(&s->latency, s->sc->latency, s->sc->config->latency_hold);
	if (!err)
		err = control_new(s->sc->config, s->store, s->state, s->sc->status, s->sc->socket,
				  &s->latency, &s->context.control);
	/* ublk first: the supervisor sends nothing else over the socket before the device. */
	if (!err && s->state->ublk >= 0)
		err = add_front(s, &front_ublk_ops);
	if (!err)
		err = add_front(s, &front_fuse_ops);
	if (err)
		return server_failed("can't serve", err);
	return jail_close(s->sc->jail); /* it says why */
}

/* --- standing by --- */

static void on_alarm(int signal)
{
}

/* Have a signal interrupt the wait every second, so that the store can be kept warm. */
static void set_alarm(void)
{
	const struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
	const struct itimerval second = {{WARM_SECONDS, 0}, {WARM_SECONDS, 0}};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &second, NULL);
}

static void allow_alarm(bool allow)
{
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(allow ? SIG_UNBLOCK : SIG_BLOCK, &alarm, NULL);
}

static void tell_supervisor(struct server *s, enum request request)
{
	/* A supervisor that is dead does not hear it, and then serving matters all the more. */
	send(s->sc->socket, &request, sizeof(request), MSG_NOSIGNAL);
}

/* Wait behind the stand-by that is first, having made the store warm once. That takes memory, of
 * which there may be none, and a stand-by that waits for some can't go on when the server ends. The
 * first one can. */
static int wait_as_second(struct server *s)
{
	bool warm = false;
	int err;

	while ((err = shared_lock(s->status_fd, LOCK_STAND_BY, true)) == -EINTR) {
		if (warm)
			continue;
		uz_store_warm(s->store);
		warm = true;
		atomic_store(&s->sc->status->warm, getpid());
	}
	if (warm)
		atomic_store(&s->sc->status->warm, 0);
	shared_unlock(s->status_fd, LOCK_NEXT);
	return err;
}

/* Whether the stand-by behind this one has just become warm. */
static bool next_is_warm(const struct server *s)
{
	pid_t next = shared_lock_owner(s->status_fd, LOCK_NEXT);

	return next && next == atomic_load(&s->sc->status->warm);
}

/* Wait for the server to end. -EAGAIN: let the second one be the first, as it is the warmer one.
 * Only if there is none for a while is it better to get cold than to risk the wait for memory. */
static int wait_as_first(struct server *s)
{
	unsigned alone = 0;
	int err;

	while ((err = shared_lock(s->status_fd, LOCK_SERVING, true)) == -EINTR) {
		if (next_is_warm(s))
			return shared_lock(s->status_fd, LOCK_SERVING, false);
		alone = shared_lock_owner(s->status_fd, LOCK_NEXT) ? 0 : alone + 1;
		if (alone >= ALONE_SECONDS)
			uz_store_warm(s->store);
	}
	return err;
}

static int wait_for_place(struct server *s)
{
	int err;

	while ((err = shared_lock(s->status_fd, LOCK_NEXT, true)) == -EINTR)
		;
	return err;
}

/* Go through the queue for serving. This takes each lock before it lets the one behind it go, so
 * that a server that stands by holds one, but for a moment when it steps back: a supervisor that
 * looks from the end of the queue to its head, twice, finds all servers. */
static int queue(struct server *s)
{
	int fd = s->status_fd, err;

	uz_store_warm(s->store);
	err = wait_for_place(s);
	if (err)
		return err;
	tell_supervisor(s, REQUEST_STANDS_BY);
	for (;;) {
		err = wait_as_second(s);
		if (!err)
			err = wait_as_first(s);
		if (err != -EAGAIN)
			break;
		shared_unlock(fd, LOCK_STAND_BY);
		err = wait_for_place(s);
		if (err)
			return err;
	}
	if (!err)
		UZ_CRASH_WHILE(shared_lock_owner(fd, LOCK_NEXT), TAKE_OVER);
	shared_unlock(fd, LOCK_STAND_BY);
	return err;
}

/* Return when it is this process's turn to serve: as soon as the kernel has taken down the last
 * server, without any other process's help. */
static int stand_by(struct server *s)
{
	int err;

	allow_alarm(true);
	err = queue(s);
	allow_alarm(false);
	return err ? server_failed("can't stand by", err) : 0;
}

static int connect_fronts(struct server *s)
{
	int err = 0;

	for (unsigned i = 0; i < s->nfronts && !err; i++) {
		if (s->fronts[i]->ops->connect)
			err = s->fronts[i]->ops->connect(s->fronts[i]);
	}
	return err;
}

/* Begin to serve; where there was another server, take over from it, with next to no memory. */
static int start_serving(struct server *s)
{
	int err;

	s->context.since = s->state->served ? now_ns() : 0;
	atomic_store(&s->sc->status->serving_ns, 0);
	err = connect_fronts(s);
	if (err)
		return server_failed("can't serve", err);
	err = uz_store_start(s->store, !s->state->served);
	if (err)
		return server_failed("can't open the store", err);
	latency_start(&s->latency);
	for (unsigned i = 0; i < s->nfronts && !err; i++)
		err = s->fronts[i]->ops->start(s->fronts[i]);
	if (err)
		return server_failed("can't serve", err);
	tell_supervisor(s, REQUEST_READY);
	return 0;
}

/* Whether processes wait for answers that will never come. */
static bool has_lost_requests(struct server *s)
{
	bool finished = atomic_exchange(&s->sc->status->finished, false);

	return s->state->served && state_loses_requests(s->state) && !finished;
}

/* --- serving --- */

static void show_status(struct server *s)
{
	struct status *status = s->sc->status;
	struct uz_store_stat st;

	uz_store_stat(s->store, &st);
	atomic_store(&status->pages_stored, st.pages_stored);
	atomic_store(&status->compr_bytes, st.compr_bytes);
	atomic_store(&status->mem_used, st.mem_used);
	atomic_store(&status->failed_writes, st.failed_limit + st.failed_memory);
	shortage_watch(&s->shortage, s->state->name, &st);
}

static void complain_orphaned(const struct server *s, unsigned seconds)
{
	if (seconds % ORPHAN_SECONDS == 0)
		log_error("the supervisor of %s has died: serving on, but nothing would replace "
			  "this process (%d); see uzramd(8), \"If the supervisor dies\"",
			  s->state->name, (int)getpid());
}

/* Whether all threads move on. Workers that the kernel makes wait for memory don't count as stuck:
 * another server could not have that memory either. */
static bool is_moving(struct server *s)
{
	unsigned waiting = uz_store_populating(s->store), stuck = 0;

	for (unsigned i = 0; i < s->nfronts; i++)
		stuck += s->fronts[i]->ops->stuck(s->fronts[i]);
	return stuck <= waiting;
}

static bool has_nothing_to_serve(struct server *s)
{
	for (unsigned i = 0; i < s->nfronts; i++) {
		if (!s->fronts[i]->ops->ended(s->fronts[i]))
			return false;
	}
	return true;
}

/* Only the supervisor ends its server: at shutdown SIGTERM goes to every process of the machine,
 * and those that end still need their pages. One that the supervisor has left alone obeys anybody.
 */
static bool is_told_to_end(const struct server *s, int signal, const siginfo_t *info)
{
	return signal == SIGTERM &&
	       (info->si_pid == s->state->supervisor || getppid() != s->state->supervisor);
}

/* Beat while every worker makes progress; until the supervisor says so, or until there is nothing
 * to serve. */
static void beat(struct server *s)
{
	const struct timespec interval = {.tv_sec = HEARTBEAT_SECONDS};
	unsigned orphaned = 0;
	siginfo_t info;
	sigset_t signals;
	int signal;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGNAL_ORPHAN);
	do {
		if (is_moving(s))
			atomic_store(&s->sc->status->heartbeat_ns, now_ns());
		show_status(s);
		if (getppid() != s->state->supervisor)
			complain_orphaned(s, orphaned++);
		signal = sigtimedwait(&signals, &info, &interval);
	} while (!is_told_to_end(s, signal, &info) && !has_nothing_to_serve(s));
}

int server_main(const struct server_config *sc)
{
	struct server s = {.sc = sc};
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL); /* inherited by every thread */
	process_unhurry();
	/* Never arm the first server: nothing could replace it. */
	if (sc->state->served && uz_crash_arm())
		return EXIT_FAILURE;
	set_alarm();
	explain_prepare();
	if (isolate(&s) || prepare_server(&s) || stand_by(&s))
		return EXIT_FAILURE;
	if (has_lost_requests(&s))
		return SERVER_EXIT_LOST;
	if (start_serving(&s))
		return EXIT_FAILURE;
	beat(&s);
	/* Once the threads have ended all requests that they took are answered: so this goes well
	 * also where the kernel can't send any again. */
	for (unsigned i = 0; i < s.nfronts; i++)
		s.fronts[i]->ops->stop(s.fronts[i]);
	latency_stop(&s.latency);
	control_finish(s.context.control);
	atomic_store(&sc->status->finished, true);
	return EXIT_SUCCESS;
}
