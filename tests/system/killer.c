/* SPDX-License-Identifier: MIT
 *
 * Kills the serving process of a device again and again, and measures what a client notices: a
 * thread reads one block of the device without pause, and the longest of its reads between one kill
 * and the next is that kill's outage.
 *
 *   killer DEVICE SUPERVISOR-PID KILLS [MIN-MS MAX-MS]
 *
 * prints, times in milliseconds:
 *
 *   killer kills=150 outage_median=9.8 outage_p99=31.0 outage_max=44.2
 *
 * and fails if a read fails, or if there is no server to kill for ten seconds.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BLOCK	     4096
#define NO_SERVER_MS 10000

static _Atomic uint64_t longest; /* of the reads since it was last taken, ns */
static _Atomic uint64_t begun;	 /* when the read that is in flight began */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *read_on(void *arg)
{
	int fd = *(int *)arg;
	void *block = aligned_alloc(BLOCK, BLOCK);

	for (;;) {
		uint64_t start = now_ns(), took;

		atomic_store(&begun, start);
		if (pread(fd, block, BLOCK, 0) != BLOCK)
			err(1, "a read failed");
		took = now_ns() - start;
		if (took > atomic_load(&longest))
			atomic_store(&longest, took);
	}
	return NULL;
}

static bool is_child_of(pid_t pid, pid_t parent)
{
	char path[64];
	pid_t found = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fscanf(f, "%*d (%*[^)]) %*c %d", &found) != 1)
		found = 0;
	fclose(f);
	return found == parent;
}

/* The child of the supervisor's that holds the first of the locks that servers wait for. 0: none.
 */
static pid_t server_of(pid_t supervisor)
{
	char line[256];
	pid_t pid, server = 0;
	FILE *f = fopen("/proc/locks", "re");

	if (!f)
		return 0;
	while (!server && fgets(line, sizeof(line), f)) {
		unsigned long long from, to;

		if (sscanf(line, "%*d: POSIX ADVISORY WRITE %d %*s %llu %llu", &pid, &from, &to) ==
			    3 &&
		    from == 0 && to == 0 && is_child_of(pid, supervisor))
			server = pid;
	}
	fclose(f);
	return server;
}

static void kill_server(pid_t supervisor)
{
	for (int ms = 0; ms < NO_SERVER_MS; ms++) {
		pid_t pid = server_of(supervisor);

		if (pid && kill(pid, SIGKILL) == 0)
			return;
		usleep(1000);
	}
	errx(1, "there is no server");
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

int main(int argc, char **argv)
{
	unsigned kills = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
	unsigned min_ms = argc > 5 ? (unsigned)atoi(argv[4]) : 1;
	unsigned max_ms = argc > 5 ? (unsigned)atoi(argv[5]) : 400;
	unsigned seed = (unsigned)time(NULL);
	double *outages;
	pthread_t reader;
	int fd;

	if (!kills)
		errx(2, "usage: killer DEVICE SUPERVISOR-PID KILLS [MIN-MS MAX-MS]");
	printf("seed %u\n", seed);
	srand(seed);
	outages = calloc(kills, sizeof(*outages));
	fd = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || !outages)
		err(1, "%s", argv[1]);
	pthread_create(&reader, NULL, read_on, &fd);
	for (unsigned i = 0; i < kills; i++) {
		uint64_t in_flight, since;

		atomic_store(&longest, 0);
		kill_server(atoi(argv[2]));
		usleep((min_ms + (unsigned)rand() % (max_ms - min_ms + 1)) * 1000);
		/* One that is still waiting counts as far as it has come. */
		since = atomic_load(&begun); /* before the time that it is compared with */
		in_flight = now_ns() - since;
		outages[i] = (double)(in_flight > longest ? in_flight : longest) / 1e6;
	}
	qsort(outages, kills, sizeof(*outages), compare);
	printf("killer kills=%u outage_median=%.1f outage_p99=%.1f outage_max=%.1f\n", kills,
	       outages[kills / 2], outages[kills - 1 - kills / 100], outages[kills - 1]);
	return 0;
}
