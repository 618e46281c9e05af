/* SPDX-License-Identifier: MIT
 *
 * Starting the library's own threads.
 */
#ifndef UZ_BASE_THREAD_H
#define UZ_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>

/* Start a thread that takes none of the process's signals. 0 or -errno. */
static inline int uz_thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg)
{
	sigset_t all, old;
	pthread_t t;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&t, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return -err;
	*ret = t;
	return 0;
}

/* Name the calling thread (at most 15 bytes). Each thread names itself: to name another one goes
 * through /proc, which a jailed server does not have. */
static inline void uz_thread_name(const char *name)
{
	pthread_setname_np(pthread_self(), name);
}

#endif
