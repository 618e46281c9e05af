/* SPDX-License-Identifier: MIT
 *
 * Deferred free for the rest of the library: uzram/defer.h, and other work for the drain thread.
 *
 * The drain thread sleeps nearly always, and what it is woken for is never urgent. So it is also
 * the thread that waits for what the library has the kernel do in the background.
 */
#ifndef UZ_DEFER_DEFER_H
#define UZ_DEFER_DEFER_H

#include <stdbool.h>
#include <stdint.h>

#include "uzram/defer.h"

#define UZ_DRAIN_NEVER UINT64_MAX

/* Do what is due of the other work. The drain thread calls this in each round, after it has drained
 * what there was. Returns the time (CLOCK_MONOTONIC, ns) of the next call at the latest;
 * UZ_DRAIN_NEVER: there is nothing to wait for. An earlier call comes whenever something else wakes
 * the thread.
 *
 * stop: uz_defer_free() waits. Begin nothing any more; the thread ends when UZ_DRAIN_NEVER is
 * returned. */
typedef uint64_t uz_drain_work(void *context, bool stop);

/* uz_defer_new() in two steps, for a caller that has other work for the thread: the first has
 * everything but the thread. uz_defer_free() after either. 0 or -errno. */
int uz_defer_prepare(const struct uz_defer_config *config, struct uz_defer **ret);
int uz_defer_start(struct uz_defer *defer, uz_drain_work *work, void *context);

/* The eventfd that the thread sleeps on, owned by defer. A signal makes it begin a round. */
int uz_defer_event_fd(const struct uz_defer *defer);

/* Have the thread call the other work soon. Any thread, under no lock; never waits. What the caller
 * has written before is visible to that call. */
void uz_defer_kick(struct uz_defer *defer);

#endif
