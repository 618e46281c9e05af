/* SPDX-License-Identifier: MIT
 *
 * A helper thread of the library. It is made early: a process that stands by has it before memory
 * is short. It begins its work when it is *released*, and from then on sleeps until it is *kicked*.
 *
 * The thread's function has this form. It reads the number of kicks before it works, so that a kick
 * that comes while it works keeps it from sleeping:
 *
 *	uz_helper_await_release(h);
 *	while (!uz_helper_stopping(h)) {
 *		uint32_t kicks = uz_helper_kicks(h);
 *
 *		work();
 *		uz_helper_sleep(h, kicks, 0);
 *	}
 */
#ifndef UZ_BASE_HELPER_H
#define UZ_BASE_HELPER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct uz_helper {
	pthread_t thread;
	bool exists; /* the thread has been made, and not joined */
	atomic_bool released;
	_Atomic uint32_t kicks, stop; /* futexes; stop is 0 or 1 */
};

/* Make the thread. It gets arg. 0, -ENOMEM or -EAGAIN. */
int uz_helper_start(struct uz_helper *h, void *(*main)(void *arg), void *arg);

/* What the caller has written before this call is visible to the thread when it begins to work. */
void uz_helper_release(struct uz_helper *h);

/* Have the thread work once more. Any thread; costs a system call. */
void uz_helper_kick(struct uz_helper *h);

/* Have the thread end, and join it. Does nothing if it does not exist. */
void uz_helper_stop(struct uz_helper *h);

/* --- for the thread itself --- */

/* Returns when the thread has been released, or is to stop. */
void uz_helper_await_release(struct uz_helper *h);

static inline bool uz_helper_stopping(const struct uz_helper *h)
{
	return atomic_load(&h->stop);
}

static inline uint32_t uz_helper_kicks(const struct uz_helper *h)
{
	return atomic_load(&h->kicks);
}

/* Sleep until there are other than so many kicks, at most ns (0: no limit). */
void uz_helper_sleep(struct uz_helper *h, uint32_t kicks, uint64_t ns);

/* Sleep for ns. Only uz_helper_stop() ends this early; kicks do not. */
void uz_helper_pause(struct uz_helper *h, uint64_t ns);

#endif
