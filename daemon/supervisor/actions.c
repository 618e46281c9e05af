/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/log.h"
#include "supervisor/host/neighbours.h"
#include "supervisor/host/watermark.h"
#include "supervisor/internal.h"
#include "supervisor/notify.h"

#define SEC	      UINT64_C(1000000000)
#define STOP_RETRY_NS (10 * SEC)

/* Attaching is a handful of requests to the server; with memory short each may take its time. */
#define ATTACH_SECONDS 300

/* When all processes are killed (shutdown) they may still need some pages in order to end. */
#define LINGER_NS (5 * SEC)

/* As configured; or as it was, where this is no longer swap over FUSE. */
void actions_set_watermark_boost(struct supervisor *s)
{
	bool off = s->config->swap && s->state->ublk < 0 && s->config->watermark_boost_off;
	int err = off ? watermark_boost_off(&s->watermark) : watermark_boost_back(&s->watermark);

	if (err)
		log_warning("can't set vm.watermark_boost_factor: %s; with any value but 0 the "
			    "machine may hang when its memory is used up",
			    strerror(-err));
}

/* The process that wrote to the control file hears how it went. If its server has died, the next
 * server asks again. */
void actions_answer(struct supervisor *s, int err)
{
	if (s->asked != REQUEST_NONE &&
	    send(s->asker, &err, sizeof(err), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_warning("can't answer the server's request: %s", strerror(errno));
	s->asked = REQUEST_NONE;
}

static void run_step(struct supervisor *s, int (*step)(struct device *device), unsigned limit)
{
	child_start(&s->child, step, &s->device, limit);
}

static void announce(struct supervisor *s)
{
	log_notice("%s is ready: %s, %.0f MiB%s", s->config->name,
		   s->state->block_device[0] ? s->state->block_device : s->device.disk,
		   (double)s->config->size / 0x1p20, s->config->swap ? ", in use as swap" : "");
}

static void begin_to_attach(struct supervisor *s)
{
	manager_store_fds(s->state); /* before anybody can have pages here */
	if (state_loses_requests(s->state))
		log_warning("this kernel can't send FUSE requests again (Linux 6.9 can): if the "
			    "server dies, %s fails for good, rather than hang",
			    s->config->name);
	if (s->state->phase == PHASE_STARTING)
		neighbours_warn(s->config, s->state->ublk < 0);
	actions_set_watermark_boost(s);
	run_step(s, device_attach, ATTACH_SECONDS);
}

static void begin_to_stop(struct supervisor *s, int (*step)(struct device *device))
{
	s->due_ns = 0;
	s->cancel = false;
	run_step(s, step, 0); /* swapoff takes as long as there are pages */
}

/* After a signal the service manager waits for the end, so that the stop is tried again. */
static void refuse_stop(struct supervisor *s, int err)
{
	s->refused = err;
	actions_answer(s, err);
	if (s->state->stable == PHASE_STOPPING)
		s->due_ns = now_ns() + STOP_RETRY_NS;
	if (err == -ECANCELED)
		log_notice("the stop of %s was called off; serving on", s->config->name);
	else
		log_error("not stopping: %s is still in use (%s); serving on", s->config->name,
			  strerror(-err));
}

static void end_upgrade(struct supervisor *s, int err)
{
	s->signal_upgrade = false;
	if (s->asked == REQUEST_UPGRADE)
		actions_answer(s, err);
}

static void call_off_upgrade(struct supervisor *s)
{
	end_upgrade(s, -EAGAIN);
	respawn_call_off(&s->servers);
}

static void refuse_upgrade(struct supervisor *s)
{
	log_error("not upgrading: the server of the new uzramd %s; serving on", s->servers.why);
	end_upgrade(s, -EPROTO);
	respawn_call_off(&s->servers);
}

/* Become the new binary; a server of it stands by. If this returns nothing has changed. */
static void exec_upgrade(struct supervisor *s)
{
	end_upgrade(s, 0);
	actions_answer(
		s, -EAGAIN); /* to any other request: its server waits for that before it ends */
	s->state->upgraded = s->servers.spares[0].pid;
	handover_exec(s->launch, s->state);
	s->state->upgraded = 0;
	respawn_call_off(&s->servers);
}

static void keep_old_servers(struct supervisor *s)
{
	if (!s->servers.lost)
		log_error("the server of the new uzramd %s: the old one serves on", s->servers.why);
	respawn_call_off(&s->servers);
}

/* The device fails from now on: PID 1, which swaps off, must not wait for a server that is dead. */
static void abandon(struct supervisor *s)
{
	child_cancel(&s->child, -ESHUTDOWN);
	if (s->state->ublk >= 0)
		ublk_device_stop(s->state);
	device_abort(&s->device);
}

void actions_run(struct supervisor *s, enum action action, int err)
{
	switch (action) {
	case ACTION_NONE:
	case ACTION_WAIT:
		break;
	case ACTION_ATTACH:
		begin_to_attach(s);
		break;
	case ACTION_READY:
		announce(s);
		break;
	case ACTION_COMPLAIN:
		log_error("%s is served, but not all of it is in place: %s", s->config->name,
			  strerror(-err));
		break;
	case ACTION_UNDO:
		s->failed = true;
		run_step(s, device_detach, 0);
		break;
	case ACTION_GIVE_UP:
		s->failed = true;
		break;
	case ACTION_STOP_SOON:
		s->signal_stop = false;
		s->due_ns = now_ns();
		break;
	case ACTION_DETACH:
		begin_to_stop(s, device_detach);
		break;
	case ACTION_DETACH_FORCED:
		begin_to_stop(s, device_detach_forced);
		break;
	case ACTION_REFUSE_STOP:
		refuse_stop(s, err);
		break;
	case ACTION_CANCEL_STOP:
		s->cancel = false;
		child_cancel(&s->child, -ECANCELED);
		break;
	case ACTION_TOO_LATE:
		s->cancel = false;
		break;
	case ACTION_REFUSE:
		actions_answer(s, -EBUSY);
		break;
	case ACTION_STOPPED:
		actions_answer(s, 0);
		notify("STOPPING=1"); /* not before: systemd takes nothing back */
		break;
	case ACTION_SLEEP:
		run_step(s, device_sleep, 0);
		break;
	case ACTION_WAKE:
		run_step(s, device_wake, ATTACH_SECONDS);
		break;
	case ACTION_RESET:
		run_step(s, device_reset, ATTACH_SECONDS);
		break;
	case ACTION_ANSWER:
		actions_answer(s, err);
		break;
	case ACTION_PREPARE_UPGRADE:
		respawn_upgrade(&s->servers, s->launch);
		break;
	case ACTION_EXEC:
		exec_upgrade(s);
		break;
	case ACTION_REFUSE_UPGRADE:
		refuse_upgrade(s);
		break;
	case ACTION_CALL_OFF_UPGRADE:
		call_off_upgrade(s);
		break;
	case ACTION_UPGRADED:
		s->state->upgrades++;
		log_notice("%s is served by uzramd " UZ_VERSION " now", s->config->name);
		break;
	case ACTION_KEEP_OLD:
		keep_old_servers(s);
		break;
	case ACTION_LINGER:
		s->due_ns = now_ns() + LINGER_NS;
		break;
	case ACTION_ABANDON:
		abandon(s);
		break;
	}
}
