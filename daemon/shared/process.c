/* SPDX-License-Identifier: MIT */
#include "shared/process.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "shared/log.h"

#define HEAP_WARM  (1u << 20)
#define STACK_SIZE (256u << 10)

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

void process_protect(void)
{
	const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
	int err = write_file("/proc/self/oom_score_adj", "-1000");

	if (err)
		log_warning("can't set oom_score_adj to -1000: %s; under memory shortage the "
			    "kernel may kill this process",
			    strerror(-err));
	/* For what a server maps when it has no privileges any more. Where that is refused
	 * (it takes CAP_SYS_RESOURCE) the unit's LimitMEMLOCK= is as good. */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	/* The last three arguments must be zero, or the call fails. */
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		log_warning("PR_SET_IO_FLUSHER refused: %s (it takes CAP_SYS_RESOURCE); going on "
			    "without",
			    strerror(errno));
}

void process_hurry(void)
{
	setpriority(PRIO_PROCESS, 0, -20);
}

void process_unhurry(void)
{
	setpriority(PRIO_PROCESS, 0, 0);
}

int process_lock_memory(void)
{
	if (mlockall(MCL_CURRENT) < 0 || mlockall(MCL_FUTURE | MCL_ONFAULT) < 0)
		return -errno;
	return 0;
}

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

int process_keep_fds(int *fds, unsigned n)
{
	int from = 0;

	qsort(fds, n, sizeof(*fds), compare_fds);
	for (unsigned i = 0; i < n; i++) {
		if (fds[i] > from && close_range((unsigned)from, (unsigned)fds[i] - 1, 0) < 0)
			return -errno;
		if (fds[i] >= from)
			from = fds[i] + 1;
	}
	return close_range((unsigned)from, ~0u, 0) < 0 ? -errno : 0;
}

void process_small_stacks(void)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
}

void process_keep_heap(void)
{
	void *warm;

	mallopt(M_TRIM_THRESHOLD, 64 << 20);
	mallopt(M_MMAP_THRESHOLD, 64 << 20);
	mallopt(M_TOP_PAD, HEAP_WARM);
	mallopt(M_ARENA_MAX, 1);
	warm = calloc(1, HEAP_WARM);
	if (warm)
		explicit_bzero(warm, HEAP_WARM); /* touched, and not optimised away */
	free(warm);
}
