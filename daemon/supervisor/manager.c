/* SPDX-License-Identifier: MIT */
#include "supervisor/manager.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "supervisor/notify.h"

#define SEC	    UINT64_C(1000000000)
#define STATUS_NS   (5 * SEC)  /* between two status lines */
#define MORE_TIME_S 60	       /* that are asked for at once */
#define ASK_TIME_NS (10 * SEC) /* between two times */

void manager_init(struct manager *m, bool told)
{
	*m = (struct manager){.told = told};
	if (sd_watchdog_enabled(0, &m->watchdog_ns) > 0)
		m->watchdog_ns *= 1000; /* sd_watchdog_enabled() has microseconds */
	else
		m->watchdog_ns = 0;
}

struct store_fds {
	unsigned index, done;
};

static int store_fd(void *arg, const char *name, int *fd)
{
	struct store_fds *s = arg;

	if (s->index++ < s->done)
		return 0;
	if (*fd >= 0 && strcmp(name, "socket") != 0 && !notify_store_fd(name, *fd))
		return -EAGAIN;
	s->done = s->index;
	return 0;
}

static int forget_fd(void *arg, const char *name, int *fd)
{
	notify_forget_fd(name);
	return 0;
}

/* Begins with the first one that the manager was too busy to take. */
void manager_store_fds(struct state *state)
{
	struct store_fds fds = {.done = state->stored};

	shared_each_fd(state, store_fd, &fds);
	state->stored = fds.done;
}

void manager_forget_fds(struct state *state)
{
	shared_each_fd(state, forget_fd, NULL);
}

/* Each line wakes the manager and all that listen to it: so only what is new, and not too often. */
static void send_status(struct manager *m, const char *status, uint64_t now)
{
	if (m->said_ns && now - m->said_ns < STATUS_NS)
		return;
	if (strcmp(status, m->said) != 0 && notify("STATUS=%s", status)) {
		snprintf(m->said, sizeof(m->said), "%s", status);
		m->said_ns = now;
	}
}

void manager_ask_for_time(struct manager *m)
{
	uint64_t now = now_ns();

	if (now >= m->ask_time_ns && notify("EXTEND_TIMEOUT_USEC=%d", MORE_TIME_S * 1000000))
		m->ask_time_ns = now + ASK_TIME_NS;
}

void manager_tick(struct manager *m, struct state *state, const char *status)
{
	uint64_t now = now_ns();

	manager_store_fds(state);
	if (!m->told)
		m->told = notify("READY=1");
	send_status(m, status, now);
	if (m->watchdog_ns && now >= m->next_watchdog_ns && notify("WATCHDOG=1"))
		m->next_watchdog_ns = now + m->watchdog_ns / 3;
}
