/* SPDX-License-Identifier: MIT
 *
 * Crash points: named places in the code of a test build (-DUZ_TEST_HOOKS). A test makes the
 * process die at one of them, to show that nothing is lost wherever that happens; or it makes
 * threads yield to each other there, to show that no order of steps does harm. An ordinary build
 * has nothing of them.
 *
 * UZ_CRASH=POINT:N in the environment arms one point. The process dies at one of its first N
 * passes, counted over all threads; which one, it draws at random. It dies by __builtin_trap(),
 * which takes no system call that a seccomp filter could refuse, and which no signal mask stops.
 */
#ifndef UZ_BASE_CRASH_H
#define UZ_BASE_CRASH_H

#include <stdint.h>

/* The library's points, X(enumerator, name). */
#define UZ_CRASH_POINTS_LIBRARY(X)                                                                 \
	X(WRITE_COPIED, "write-copied")	      /* the object is written, its entry not published */ \
	X(WRITE_PUBLISHED, "write-published") /* the entry is published, no more */                \
	X(SLOT_LOCKED, "slot-locked")	      /* a part of a page is about to be changed */        \
	X(DETACHED, "detached")		      /* a discard has emptied the slot, no more */        \
	X(PUSHED, "pushed")		      /* a value is in a deferred-free buffer */           \
	X(PUSH_FULL, "push-full")	      /* a full buffer is queued, and still the current */ \
	X(DRAIN_RUN, "drain-run")	      /* one class of a buffer's objects is freed */       \
	X(COMPACT_COPIED, "compact-copied")   /* an object is moved, its slot names the old one */ \
	X(COMPACT_PUBLISHED, "compact-published") /* the slot names the new one, no more */        \
	X(TRIM_SUBMITTED, "trim-submitted")	  /* the kernel is taking memory back */           \
	X(TRIM_END, "trim-end")			  /* the kernel has taken memory back */           \
	X(REFILL_POPULATED, "refill-populated")	  /* units have memory, and are in no set */       \
	X(RECOVER_CLAIM, "recover-claim")	  /* a slot's entry is about to be claimed */      \
	X(RECOVER_RESTORED, "recover-restored")	  /* everything is rebuilt, nothing started */

/* The daemon's. */
#define UZ_CRASH_POINTS_DAEMON(X)                                                                  \
	X(TAKE_OVER, "take-over") /* the server is to serve, and another stands by behind it */    \
	X(INIT_REPLAYED, "init-replayed")                                                          \
	X(RESEND_BEFORE, "resend-before")                                                          \
	X(RESEND_AFTER, "resend-after")                                                            \
	X(REPLY_BEFORE, "reply-before")                                                            \
	X(REPLY_AFTER, "reply-after")                                                              \
	X(UBLK_GIVEN, "ublk-given")	/* the server has the device, and has fetched nothing */   \
	X(UBLK_FETCHED, "ublk-fetched") /* it has fetched, and has mapped nothing */               \
	X(UBLK_COMMIT_BEFORE, "ublk-commit-before")                                                \
	X(UBLK_COMMIT_AFTER, "ublk-commit-after")

#ifdef UZ_TEST_HOOKS

enum uz_crash_point {
#define X(point, name) UZ_CRASH_##point,
	UZ_CRASH_POINTS_LIBRARY(X) UZ_CRASH_COUNT_LIBRARY,
	UZ_CRASH_LAST_LIBRARY = UZ_CRASH_COUNT_LIBRARY - 1, /* the daemon's go on from here */
	UZ_CRASH_POINTS_DAEMON(X) UZ_CRASH_COUNT,
#undef X
};

/* The name of a point, which is from 0 to UZ_CRASH_COUNT - 1. The library's points are those
 * below UZ_CRASH_COUNT_LIBRARY. */
const char *uz_crash_name(unsigned point);

/* Arm the point that the environment names, if it names one. A new process calls this before it
 * starts threads. -EINVAL: there is no such point, or N is not a number from 1. */
int uz_crash_arm(void);

/* From now on a thread that passes a point yields to others now and then, and more rarely sleeps
 * for a moment, so that another thread does get in between two steps. The seed decides, for each
 * thread, at which passes. Call this before there are threads. */
void uz_crash_yield(uint64_t seed);

void uz_crash_pass(enum uz_crash_point point);

#define UZ_CRASH(point) uz_crash_pass(UZ_CRASH_##point)

/* A pass counts only while condition holds. An ordinary build does not even evaluate it. */
#define UZ_CRASH_WHILE(condition, point)                                                           \
	do {                                                                                       \
		if (condition)                                                                     \
			UZ_CRASH(point);                                                           \
	} while (0)

#else

static inline int uz_crash_arm(void)
{
	return 0;
}

static inline void uz_crash_yield(uint64_t seed)
{
}

#define UZ_CRASH(point)                                                                            \
	do {                                                                                       \
	} while (0)
#define UZ_CRASH_WHILE(condition, point) UZ_CRASH(point)

#endif
#endif
