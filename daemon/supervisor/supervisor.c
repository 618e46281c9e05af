/* SPDX-License-Identifier: MIT */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "shared/explain.h"
#include "shared/log.h"
#include "shared/process.h"
#include "supervisor/host/fuse_mount.h"
#include "supervisor/host/watermark.h"
#include "supervisor/internal.h"
#include "supervisor/jail_make.h"
#include "supervisor/latency_device.h"
#include "supervisor/memory_bound.h"

/* --- the loop --- */

static void enter(struct supervisor *s, enum phase next)
{
	struct state *state = s->state;

	state->phase = next == PHASE_BACK ? state->stable : next;
	if (life_is_stable(state->phase))
		state->stable = state->phase;
}

/* What has happened, of what matters in this phase; the first in the order of enum event. */
static bool go_on(struct supervisor *s)
{
	for (enum event event = EVENT_NONE + 1; event < EVENT_COUNT; event++) {
		struct life_step step = life_step(s->state->phase, event);
		bool outcome = event == EVENT_DONE || event == EVENT_FAILED;

		if (step.action == ACTION_NONE || !events_has(s, event))
			continue;
		actions_run(s, step.action, outcome ? child_take(&s->child) : 0);
		enter(s, step.next);
		return true;
	}
	return false;
}

/* A server that is to end waits for the answer to what it has asked, and we for its end. */
static void release_server(struct supervisor *s)
{
	if (respawn_changes(&s->servers) || s->state->phase == PHASE_ENDING)
		actions_answer(s, -EAGAIN);
}

static void live(struct supervisor *s)
{
	s->servers.wanted = s->state->phase != PHASE_ENDING;
	events_tell_manager(s);
	while (s->state->phase != PHASE_ENDED) {
		if (!go_on(s))
			events_wait(s);
		release_server(s);
	}
}

/* --- begin and end --- */

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
	s->state->arena_root_fd = fcntl(uz_arena_root(arena), F_DUPFD_CLOEXEC, 0);
	uz_arena_free(arena);
	memory_bound(s->config, s->state);
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
	manager_init(&s->manager, s->launch->upgraded);
	respawn_init(&s->servers, s->config, s->state, s->status, &s->jail,
		     latency_open(s->config->latency_hold));
	err = process_lock_memory();
	return err ? fail("can't lock memory (it takes CAP_IPC_LOCK or LimitMEMLOCK=infinity)", err)
		   : 0;
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

static int make_device(struct supervisor *s)
{
	char why[EXPLAIN_MAX];
	int err = make_arena(s);

	if (err)
		return fail("can't make the arena", err);
	err = make_ublk(s);
	if (err)
		return err;
	/* Beside ublk it is for the control files alone. */
	err = fuse_mount_new(s->device.dir, s->state->ublk < 0 ? s->config->workers : 1,
			     &s->state->mount);
	if (err)
		log_error("can't mount on %s: %s", s->device.dir,
			  explain_device("/dev/fuse", "fuse", err, why));
	return err;
}

/* A new device. */
static int begin(struct supervisor *s)
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
	return err ? err : make_device(s);
}

/* Go on with a device. What this process is, another supervisor has become, or was replaced by. The
 * old servers serve on until new ones stand by (respawn.h): where the last supervisor has crashed
 * that happens while this one does everything else. On failure the device is as that one left it,
 * and served if its server lives. */
static int go_on_from(struct supervisor *s)
{
	struct state *state = s->state;
	int err = shared_map_status(state, &s->status);

	if (err)
		return fail("can't take over", err);
	s->device.state = state;
	memory_bound(s->config, state);
	err = prepare(s);
	if (err)
		return err;
	state->supervisor = getpid();
	state->phase = state->stable;
	s->due_ns = state->phase == PHASE_STOPPING ? now_ns() : 0;
	respawn_adopt(&s->servers);
	if (state->ublk >= 0)
		err = ublk_device_adopt(&s->ublk, state, s->servers.server.pid != 0);
	if (err)
		return err;
	if (s->launch->upgraded)
		actions_set_watermark_boost(s);
	else
		log_error("the supervisor of %s had died; this one goes on, nothing is lost",
			  s->config->name);
	if (state->phase != PHASE_STARTING && state->phase != PHASE_ENDING)
		state->phase = s->launch->upgraded ? PHASE_RENEWING : PHASE_ADOPTING;
	return 0;
}

/* What is still in use stays for the next start to clear away. */
static void tidy_up(struct supervisor *s)
{
	if (!s->state)
		return;
	s->state->stable = PHASE_ENDED;
	manager_forget_fds(s->state);
	fuse_mount_close(&s->state->mount);
	if (s->state->ublk >= 0 && !s->state->block_device[0])
		ublk_device_delete(&s->ublk);
	jail_done(&s->jail);
	if (s->state->block_device[0])
		return;
	watermark_boost_back(&s->watermark);
	device_release(&s->device);
}

int supervisor_main(const struct config *config, const struct launch *launch, struct state *state)
{
	struct supervisor s = {
		.config = config,
		.launch = launch,
		.state = state,
		.jail = {.root = -1, .network = -1},
		.child = {.pidfd = -1},
		.watermark = -1,
	};
	int err;

	/* First of all: threads of the kernel's that work for us are to be like us. */
	if (!launch->upgraded)
		process_protect(); /* which exec leaves as it is */
	process_hurry();
	device_init(&s.device, config);
	err = state ? go_on_from(&s) : begin(&s);
	if (err && state)
		return EXIT_FAILURE;
	if (!err)
		live(&s);
	if (!s.shutdown)
		tidy_up(&s);
	return err || s.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
