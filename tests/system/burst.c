/* SPDX-License-Identifier: MIT
 *
 * Reads single blocks at random in bursts, one after the other, with pauses between the bursts.
 *
 *   burst PATH READS PAUSE-US MS
 *
 * READS in each burst; 0: no reads, only pauses. Prints, times in microseconds:
 *
 *   reads=4000 median=19.2 p99=47.1 polled=12.5 idle=160.0
 *
 * the last two being what all CPUs together spent polling in their idle loop, and idle in any way,
 * in per cent of the time; both 0 where cpuidle doesn't count them.
 */
#include <err.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BLOCK	  4096
#define READS_MAX 1000000

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Microseconds of all CPUs in the idle states that match. */
static uint64_t cpuidle(const char *states)
{
	uint64_t total = 0, us;
	glob_t found;

	if (glob(states, 0, NULL, &found))
		return 0;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *f = fopen(found.gl_pathv[i], "r");

		if (f && fscanf(f, "%" SCNu64, &us) == 1)
			total += us;
		if (f)
			fclose(f);
	}
	globfree(&found);
	return total;
}

static uint64_t polled_us(void)
{
	return cpuidle("/sys/devices/system/cpu/cpu*/cpuidle/state0/time");
}

static uint64_t idle_us(void)
{
	return cpuidle("/sys/devices/system/cpu/cpu*/cpuidle/state*/time");
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t one_read(int fd, uint64_t blocks)
{
	static _Alignas(BLOCK) char block[BLOCK];
	uint64_t since = now_ns();

	if (pread(fd, block, BLOCK, (off_t)((uint64_t)random() % blocks * BLOCK)) != BLOCK)
		err(1, "read");
	return now_ns() - since;
}

/* Returns how many reads there were. */
static size_t run(int fd, unsigned reads, unsigned pause_us, uint64_t ns, uint64_t *times)
{
	const struct timespec pause = {.tv_sec = pause_us / 1000000,
				       .tv_nsec = pause_us % 1000000 * 1000L};
	uint64_t blocks = (uint64_t)lseek(fd, 0, SEEK_END) / BLOCK, until = now_ns() + ns;
	size_t n = 0;

	while (now_ns() < until) {
		for (unsigned i = 0; i < reads && n < READS_MAX; i++)
			times[n++] = one_read(fd, blocks);
		if (pause_us)
			nanosleep(&pause, NULL);
	}
	return n;
}

int main(int argc, char **argv)
{
	uint64_t *times = calloc(READS_MAX, sizeof(*times)), polled, idle, since;
	double wall_us;
	size_t n;
	int fd;

	if (argc != 5 || !times)
		errx(2, "usage: burst PATH READS PAUSE-US MS");
	fd = open(argv[1], O_RDONLY | O_DIRECT);
	if (fd < 0)
		err(1, "%s", argv[1]);
	polled = polled_us();
	idle = idle_us();
	since = now_ns();
	n = run(fd, (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]),
		(uint64_t)atoi(argv[4]) * 1000000, times);
	wall_us = (double)(now_ns() - since) / 1e3;
	polled = polled_us() - polled;
	idle = idle_us() - idle;
	qsort(times, n, sizeof(*times), compare);
	printf("reads=%zu median=%.1f p99=%.1f polled=%.1f idle=%.1f\n", n,
	       n ? (double)times[n / 2] / 1e3 : 0, n ? (double)times[n * 99 / 100] / 1e3 : 0,
	       100 * (double)polled / wall_us, 100 * (double)idle / wall_us);
	return 0;
}
