/* SPDX-License-Identifier: MIT
 *
 * What killing at any moment (kill.c) and dying at a crash point (crash.c) share: a process that
 * serves an arena under load, and the check of what it left.
 *
 * Every page must be as it was when its last write was acknowledged, or as the one write that
 * wasn't left it.
 */
#ifndef UZ_TESTS_KILL_H
#define UZ_TESTS_KILL_H

#include <stdint.h>
#include <sys/types.h>

#include "model.h"

/* An arena, all of whose pages are zero, and the log of what is written to it. */
struct uz_arena *kill_begin(const struct options *o);
void kill_end(struct uz_arena *arena);

/* Start a process that serves the arena, and works on it with many threads, until it dies. crash:
 * the crash point it dies at, as in base/crash.h, or NULL. */
pid_t kill_serve(const struct options *o, int fd, const char *crash);

/* Once it is dead, check everything. Returns how many slots had unacknowledged pages. */
unsigned kill_check(const struct options *o, int fd);

/* Requests that have been begun so far. */
uint64_t kill_requests(const struct options *o);

#endif
