/* SPDX-License-Identifier: MIT */
#include "base/helper.h"

#include "base/futex.h"
#include "base/thread.h"

/* All accesses are sequentially consistent. A sleeper reads `kicks` first and `released`, `stop` or
 * its work second; the other side writes these first and changes `kicks` second. So the sleeper
 * sees what was written, or the futex call sees that `kicks` has changed. */

int uz_helper_start(struct uz_helper *h, void *(*main)(void *arg), void *arg)
{
	int err;

	atomic_store(&h->released, false);
	atomic_store(&h->stop, 0);
	err = uz_thread_start(&h->thread, main, arg);
	h->exists = !err;
	return err;
}

void uz_helper_release(struct uz_helper *h)
{
	atomic_store(&h->released, true);
	uz_helper_kick(h);
}

void uz_helper_kick(struct uz_helper *h)
{
	atomic_fetch_add(&h->kicks, 1);
	uz_futex_wake(&h->kicks, 1);
}

void uz_helper_stop(struct uz_helper *h)
{
	if (!h->exists)
		return;
	atomic_store(&h->stop, 1);
	uz_futex_wake(&h->stop, 1); /* uz_helper_pause() */
	uz_helper_kick(h);
	pthread_join(h->thread, NULL);
	h->exists = false;
}

void uz_helper_await_release(struct uz_helper *h)
{
	for (;;) {
		uint32_t kicks = uz_helper_kicks(h);

		if (atomic_load(&h->released) || uz_helper_stopping(h))
			return;
		uz_helper_sleep(h, kicks, 0);
	}
}

void uz_helper_sleep(struct uz_helper *h, uint32_t kicks, uint64_t ns)
{
	if (!uz_helper_stopping(h))
		uz_futex_wait(&h->kicks, kicks, ns);
}

void uz_helper_pause(struct uz_helper *h, uint64_t ns)
{
	uz_futex_wait(&h->stop, 0, ns);
}
