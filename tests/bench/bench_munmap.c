/* SPDX-License-Identifier: MIT
 *
 * What it costs a process to free memory that is swapped out: the experiment of the kernel's
 * deferred-free series.
 *
 *   bench_munmap MIB PROCESSES CORPUS
 *
 * Each process fills MIB of its own with pages of the corpus and has them paged out. The program
 * then says "out" and waits for a line on standard input, before which whoever started it sees to
 * it that none of them is left in the swap cache. All processes unmap their memory at the same
 * time; printed are the means of the time and of the CPU time it took each, in milliseconds. A page
 * that is not out is an error.
 */
#include <err.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mapped.h"

#define PROCESSES_MAX 64

struct shared {
	pthread_barrier_t out, go;
	uint64_t ns[PROCESSES_MAX], cpu_ns[PROCESSES_MAX];
};

static uint64_t now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Of the mapping at base, which has been split by nobody: bytes of it in swap. */
static uint64_t swapped(const void *base)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long long start, end, kib = 0;
	char line[512];
	int inside = 0;

	if (!f)
		err(2, "/proc/self/smaps");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llx-%llx ", &start, &end) == 2)
			inside = start == (uintptr_t)base;
		else if (inside && sscanf(line, "Swap: %llu kB", &kib) == 1)
			break;
	}
	fclose(f);
	return kib << 10;
}

static void *fill(const struct mapped *s, unsigned process, size_t size)
{
	unsigned char *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		err(2, "mmap");
	/* Else the kernel would swap whole huge pages out, where it has them. */
	madvise(base, size, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < size / MAPPED_PAGE; i++)
		memcpy(base + i * MAPPED_PAGE, mapped_page(s, process * (size / MAPPED_PAGE) + i),
		       MAPPED_PAGE);
	return base;
}

static void run(struct shared *shared, const struct mapped *s, unsigned process, size_t size)
{
	void *base = fill(s, process, size);
	uint64_t out;

	/* Some are passed over: busy for a moment. */
	for (int tries = 0; tries < 20 && swapped(base) < size; tries++)
		madvise(base, size, MADV_PAGEOUT);
	pthread_barrier_wait(&shared->out);
	pthread_barrier_wait(&shared->go);
	out = swapped(base);
	if (out < size)
		errx(1, "only %llu of %llu KiB are swapped out", (unsigned long long)out >> 10,
		     (unsigned long long)size >> 10);
	shared->ns[process] = now(CLOCK_MONOTONIC);
	shared->cpu_ns[process] = now(CLOCK_PROCESS_CPUTIME_ID);
	munmap(base, size);
	shared->cpu_ns[process] = now(CLOCK_PROCESS_CPUTIME_ID) - shared->cpu_ns[process];
	shared->ns[process] = now(CLOCK_MONOTONIC) - shared->ns[process];
}

static void wait_for_line(void)
{
	int c;

	puts("out");
	fflush(stdout);
	do
		c = getchar();
	while (c != '\n' && c != EOF);
}

int main(int argc, char **argv)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned processes = argc == 4 ? (unsigned)atoi(argv[2]) : 0;
	size_t size = argc == 4 ? (size_t)atoi(argv[1]) << 20 : 0;
	pthread_barrierattr_t attr;
	struct mapped sample;
	uint64_t sum = 0, cpu_sum = 0;
	int failed = 0, status;

	if (!size || !processes || processes > PROCESSES_MAX)
		errx(2, "usage: bench_munmap MIB PROCESSES CORPUS");
	if (shared == MAP_FAILED)
		err(2, "mmap");
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->out, &attr, processes + 1);
	pthread_barrier_init(&shared->go, &attr, processes + 1);
	mapped_open(&sample, argv[3], 0);
	for (unsigned i = 0; i < processes; i++) {
		pid_t pid = fork();

		if (pid < 0)
			err(2, "fork");
		if (pid)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(shared, &sample, i, size);
		_exit(0);
	}
	pthread_barrier_wait(&shared->out);
	wait_for_line();
	pthread_barrier_wait(&shared->go);
	while (wait(&status) > 0)
		failed |= status;
	for (unsigned i = 0; i < processes; i++) {
		sum += shared->ns[i];
		cpu_sum += shared->cpu_ns[i];
	}
	if (!failed)
		printf("%.3f %.3f\n", (double)sum / processes / 1e6,
		       (double)cpu_sum / processes / 1e6);
	return failed ? 1 : 0;
}
