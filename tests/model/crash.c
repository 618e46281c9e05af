/* SPDX-License-Identifier: MIT
 *
 * model --crash: a child serves the arena and dies at a crash point; so for each of the library's
 * points, many times. A point that is not reached fails the test.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "base/crash.h"
#include "kill.h"

#define ROUNDS_MIN 200 /* of each point */

/* The child survives fewer passes of the point than this: as many as a few milliseconds bring, or
 * as are sure to come. */
static const unsigned passes[UZ_CRASH_COUNT_LIBRARY] = {
	[UZ_CRASH_WRITE_COPIED] = 300,	   [UZ_CRASH_WRITE_PUBLISHED] = 300,
	[UZ_CRASH_SLOT_LOCKED] = 16,	   [UZ_CRASH_DETACHED] = 60,
	[UZ_CRASH_PUSHED] = 200,	   [UZ_CRASH_PUSH_FULL] = 1,
	[UZ_CRASH_DRAIN_RUN] = 30,	   [UZ_CRASH_COMPACT_COPIED] = 40,
	[UZ_CRASH_COMPACT_PUBLISHED] = 40, [UZ_CRASH_TRIM_SUBMITTED] = 1,
	[UZ_CRASH_TRIM_END] = 12,	   [UZ_CRASH_REFILL_POPULATED] = 3,
	[UZ_CRASH_RECOVER_CLAIM] = 60,	   [UZ_CRASH_RECOVER_RESTORED] = 1,
};

static void await_crash(pid_t pid, const char *name)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	CHECK(!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM, "%s is never reached", name);
	/* Which of them __builtin_trap() raises depends on the machine. */
	CHECK(WIFSIGNALED(status) && (WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGTRAP),
	      "%s: the child failed by itself, status %x", name, (unsigned)status);
}

static void crash_at(const struct options *o, int fd, unsigned point, double seconds)
{
	struct timespec start, now;
	unsigned rounds = 0, ahead = 0;
	char crash[64];
	double spent;

	CHECK(passes[point], "how often is %s passed?", uz_crash_name(point));
	snprintf(crash, sizeof(crash), "%s:%u", uz_crash_name(point), passes[point]);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		await_crash(kill_serve(o, fd, crash), uz_crash_name(point));
		ahead += kill_check(o, fd);
		rounds++;
		clock_gettime(CLOCK_MONOTONIC, &now);
		spent = (double)(now.tv_sec - start.tv_sec) +
			(double)(now.tv_nsec - start.tv_nsec) / 1e9;
	} while (rounds < ROUNDS_MIN || spent < seconds);
	printf("%-18s %5u times in %5.2f s, %u pages were ahead of their acknowledgement\n",
	       uz_crash_name(point), rounds, spent, ahead);
	fflush(stdout);
}

/* What would arm nothing must not pass for a point that is never reached. */
static void check_arming(void)
{
	static const char *const bad[] = {
		"",
		"write-copied",
		"write-copied:",
		"write-copied:0",
		"write-copied:x",
		"write-copied:-1",
		"write-copied:9x",
		"write-copie:1",
		"write-copied2:1",
		":1",
		"write-copied:99999999999999999999",
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("UZ_CRASH", bad[i], 1);
		CHECK(uz_crash_arm() == -EINVAL, "\"%s\" is taken", bad[i]);
	}
	unsetenv("UZ_CRASH");
	CHECK(!uz_crash_arm(), "no point");
	uz_crash_pass(UZ_CRASH_WRITE_COPIED);
}

void crash_test(const struct options *o)
{
	struct uz_arena *arena = kill_begin(o);

	check_arming();
	for (unsigned point = 0; point < UZ_CRASH_COUNT_LIBRARY; point++)
		crash_at(o, uz_arena_fd(arena), point, (double)o->seconds / UZ_CRASH_COUNT_LIBRARY);
	kill_end(arena);
}
