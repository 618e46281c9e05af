/* SPDX-License-Identifier: MIT
 *
 * The same pages written to and read from several block devices or files, in turn.
 *
 *   bench_disk [OPTION]... fill   CORPUS ARM=PATH[,PID]...
 *   bench_disk [OPTION]... verify CORPUS ARM=PATH...
 *   bench_disk [OPTION]... random CORPUS ARM=PATH[,PID]...
 *   bench_disk [OPTION]... dump   CORPUS >FILE
 *
 * Options: -m MIB of the corpus; -r ROUNDS; of random: -t MS and -q DEPTH,...
 *
 * PID is the process that serves PATH: its CPU time counts as well.
 *
 * fill: discard everything, write the pages in requests of FILL_PAGES by one thread, read them.
 * verify: compare what fill has written. random: fill, then read and overwrite single pages at
 * random for MS. As many threads as the depth says have one request under way each: so do processes
 * that wait for swapped pages, and a device that works in its caller's context (zram) needs threads
 * to use two CPUs.
 *
 * All I/O is direct, and what is written is always pages of the corpus. (That is what fio can't do:
 * it writes a pattern. And its asynchronous engines serialise writes to a FUSE file.) One JSON line
 * for each measurement, as README.md has it.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mapped.h"
#include "model/pages.h"

#define FILL_PAGES  MAPPED_RUN /* 256 KiB: about what swap-out makes of its pages */
#define ARMS_MAX    16
#define DEPTHS_MAX  8
#define DEPTH_MAX   64
#define SAMPLES_MAX (1u << 18) /* of a thread; a longer run counts on, but samples no more */
#define SETTLE_US   100000     /* between two arms: what one leaves behind shan't hit the next */

struct arm {
	const char *name, *path;
	int fd;
	int pid; /* 0: none */
};

struct bench {
	struct mapped corpus;
	unsigned rounds, ms;
	unsigned depths[DEPTHS_MAX], ndepths;
	struct arm arms[ARMS_MAX];
	unsigned narms;
};

/* --- time --- */

static uint64_t now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* CPU time of all threads of the arm's server, ns. */
static uint64_t server_cpu(const struct arm *a)
{
	uint64_t sum = 0, ns;
	char pattern[64];
	glob_t found;

	if (!a->pid)
		return 0;
	snprintf(pattern, sizeof(pattern), "/proc/%d/task/*/schedstat", a->pid);
	if (glob(pattern, 0, NULL, &found))
		errx(2, "%s: process %d is gone", a->name, a->pid);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *f = fopen(found.gl_pathv[i], "r");

		if (f && fscanf(f, "%" SCNu64, &ns) == 1)
			sum += ns;
		if (f)
			fclose(f);
	}
	globfree(&found);
	return sum;
}

static void print(const char *what, const struct arm *a, const char *unit, bool higher,
		  double value)
{
	printf("{\"what\":\"%s\",\"arm\":\"%s\",\"unit\":\"%s\",\"better\":\"%s\",\"values\":[%.6g]"
	       "}"
	       "\n",
	       what, a->name, unit, higher ? "higher" : "lower", value);
	fflush(stdout);
}

/* --- devices --- */

static void open_arm(struct arm *a, uint64_t size)
{
	off_t end;

	a->fd = open(a->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (a->fd < 0)
		err(2, "%s", a->path);
	end = lseek(a->fd, 0, SEEK_END);
	if (end < 0 || (uint64_t)end < size)
		errx(2, "%s: smaller than the corpus", a->path);
}

static void discard(const struct arm *a, uint64_t size)
{
	const uint64_t range[2] = {0, size};
	struct stat st;
	int bad;

	fstat(a->fd, &st);
	bad = S_ISBLK(st.st_mode) ? ioctl(a->fd, BLKDISCARD, range)
				  : fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
					      (off_t)size);
	if (bad)
		err(2, "%s: discard", a->path);
}

static void fill(const struct arm *a, const struct mapped *p)
{
	for (uint64_t i = 0; i < p->count; i += FILL_PAGES) {
		size_t size = FILL_PAGES * MAPPED_PAGE;

		if (pwrite(a->fd, mapped_page(p, i), size, (off_t)(i * MAPPED_PAGE)) !=
		    (ssize_t)size)
			err(2, "%s: write", a->path);
	}
}

static void scan(const struct arm *a, const struct mapped *p, void *buf)
{
	for (uint64_t i = 0; i < p->count; i += FILL_PAGES) {
		size_t size = FILL_PAGES * MAPPED_PAGE;

		if (pread(a->fd, buf, size, (off_t)(i * MAPPED_PAGE)) != (ssize_t)size)
			err(2, "%s: read", a->path);
	}
}

static void *new_buffer(size_t size)
{
	void *buf = aligned_alloc(MAPPED_PAGE, size);

	if (!buf)
		err(2, "no memory");
	memset(buf, 0, size);
	return buf;
}

/* --- fill --- */

struct lap {
	uint64_t wall, own, server;
};

static struct lap lap_start(const struct arm *a)
{
	return (struct lap){now(CLOCK_MONOTONIC), now(CLOCK_THREAD_CPUTIME_ID), server_cpu(a)};
}

/* Of what began at start. */
static void print_lap(const char *what, const struct arm *a, struct lap start, uint64_t pages)
{
	double us = 1e-3 / (double)pages;
	double wall = (double)(now(CLOCK_MONOTONIC) - start.wall) * us;
	double own = (double)(now(CLOCK_THREAD_CPUTIME_ID) - start.own) * us;
	double server = (double)(server_cpu(a) - start.server) * us;
	char name[64];

	snprintf(name, sizeof(name), "%s, wall", what);
	print(name, a, "us/page", false, wall);
	snprintf(name, sizeof(name), "%s, CPU", what);
	print(name, a, "us/page", false, own + server);
	if (!a->pid)
		return;
	snprintf(name, sizeof(name), "%s, CPU of the server", what);
	print(name, a, "us/page", false, server);
}

static void bench_fill(struct bench *b)
{
	void *buf = new_buffer(FILL_PAGES * MAPPED_PAGE);

	for (unsigned round = 0; round < b->rounds; round++) {
		for (unsigned i = 0; i < b->narms; i++) {
			struct arm *a = &b->arms[(i + round) % b->narms];
			struct lap start;

			discard(a, b->corpus.count * MAPPED_PAGE);
			usleep(SETTLE_US);
			start = lap_start(a);
			fill(a, &b->corpus);
			print_lap("write", a, start, b->corpus.count);
			start = lap_start(a);
			scan(a, &b->corpus, buf);
			print_lap("read", a, start, b->corpus.count);
		}
	}
	free(buf);
}

static void verify(struct bench *b)
{
	const size_t size = FILL_PAGES * MAPPED_PAGE;
	void *buf = new_buffer(size);

	for (unsigned i = 0; i < b->narms; i++) {
		for (uint64_t page = 0; page < b->corpus.count; page += FILL_PAGES) {
			off_t off = (off_t)(page * MAPPED_PAGE);

			if (pread(b->arms[i].fd, buf, size, off) != (ssize_t)size)
				err(2, "%s: read", b->arms[i].path);
			if (memcmp(buf, mapped_page(&b->corpus, page), size) != 0)
				errx(1, "%s: wrong data", b->arms[i].path);
		}
	}
	free(buf);
}

static void dump(const struct bench *b)
{
	for (uint64_t i = 0; i < b->corpus.count; i += FILL_PAGES)
		fwrite(mapped_page(&b->corpus, i), MAPPED_PAGE, FILL_PAGES, stdout);
	if (fflush(stdout))
		err(2, "standard output");
}

/* --- random --- */

struct run {
	const struct bench *b;
	const struct arm *arm;
	bool writes;
	pthread_barrier_t start;
	atomic_bool stop;
};

struct client {
	struct run *run;
	pthread_t thread;
	uint64_t seed;
	uint64_t count, cpu_ns;
	uint32_t *ns; /* SAMPLES_MAX */
};

static void *client_main(void *arg)
{
	struct client *c = arg;
	struct run *r = c->run;
	const struct mapped *p = &r->b->corpus;
	void *buf = new_buffer(MAPPED_PAGE);
	struct rng rng;

	rng_init(&rng, c->seed, 0);
	pthread_barrier_wait(&r->start);
	while (!atomic_load_explicit(&r->stop, memory_order_relaxed)) {
		off_t off = (off_t)(rng_below(&rng, p->count) * MAPPED_PAGE);
		const void *page = mapped_page(p, rng_below(&rng, p->count));
		uint64_t t = now(CLOCK_MONOTONIC);
		ssize_t len = r->writes ? pwrite(r->arm->fd, page, MAPPED_PAGE, off)
					: pread(r->arm->fd, buf, MAPPED_PAGE, off);

		t = now(CLOCK_MONOTONIC) - t;
		if (len != MAPPED_PAGE)
			err(2, "%s: %s", r->arm->path, r->writes ? "write" : "read");
		if (c->count < SAMPLES_MAX)
			c->ns[c->count] = t < UINT32_MAX ? (uint32_t)t : UINT32_MAX;
		c->count++;
	}
	c->cpu_ns = now(CLOCK_THREAD_CPUTIME_ID);
	free(buf);
	return NULL;
}

static int compare(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	return a < b ? -1 : a > b;
}

/* Of the only client, and what the server has done for it. */
static void print_client(const struct run *r, struct client *c, uint64_t server_ns)
{
	uint64_t n = c->count < SAMPLES_MAX ? c->count : SAMPLES_MAX;
	const char *op = r->writes ? "write" : "read";
	char what[64];

	if (!n)
		return;
	qsort(c->ns, n, sizeof(c->ns[0]), compare);
	snprintf(what, sizeof(what), "4k random %s, depth 1, median", op);
	print(what, r->arm, "us", false, c->ns[n / 2] / 1e3);
	snprintf(what, sizeof(what), "4k random %s, depth 1, p99", op);
	print(what, r->arm, "us", false, c->ns[n / 100 * 99] / 1e3);
	snprintf(what, sizeof(what), "4k random %s, depth 1, CPU", op);
	print(what, r->arm, "us", false, (double)(c->cpu_ns + server_ns) / 1e3 / (double)c->count);
}

static void run_random(struct run *r, unsigned depth, struct client *clients)
{
	uint64_t count = 0, ns, server_ns;
	char what[64];

	r->stop = false;
	pthread_barrier_init(&r->start, NULL, depth + 1);
	for (unsigned i = 0; i < depth; i++) {
		clients[i].run = r;
		clients[i].seed = i + 1;
		clients[i].count = 0;
		if (pthread_create(&clients[i].thread, NULL, client_main, &clients[i]))
			errx(2, "can't start a thread");
	}
	server_ns = server_cpu(r->arm);
	pthread_barrier_wait(&r->start);
	ns = now(CLOCK_MONOTONIC);
	usleep(r->b->ms * 1000);
	r->stop = true;
	for (unsigned i = 0; i < depth; i++) {
		pthread_join(clients[i].thread, NULL);
		count += clients[i].count;
	}
	ns = now(CLOCK_MONOTONIC) - ns;
	pthread_barrier_destroy(&r->start);
	snprintf(what, sizeof(what), "4k random %s, depth %u", r->writes ? "write" : "read", depth);
	print(what, r->arm, "IOPS", true, (double)count * 1e9 / (double)ns);
	if (depth == 1)
		print_client(r, &clients[0], server_cpu(r->arm) - server_ns);
}

static void bench_random(struct bench *b)
{
	static struct client clients[DEPTH_MAX];

	for (unsigned i = 0; i < DEPTH_MAX; i++)
		clients[i].ns = new_buffer(SAMPLES_MAX * sizeof(clients[i].ns[0]));
	for (unsigned i = 0; i < b->narms; i++)
		fill(&b->arms[i], &b->corpus);
	for (unsigned round = 0; round < b->rounds; round++) {
		for (unsigned i = 0; i < 2 * b->ndepths * b->narms; i++) {
			struct run r = {
				.b = b,
				.arm = &b->arms[(i + round) % b->narms],
				.writes = i / b->narms % 2,
			};

			usleep(SETTLE_US);
			run_random(&r, b->depths[i / b->narms / 2], clients);
		}
	}
}

/* --- the command line --- */

static unsigned number(const char *text, unsigned min, unsigned max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (end == text || (*end && *end != ',') || n < min || n > max)
		errx(2, "%s: a number from %u to %u is wanted", text, min, max);
	return (unsigned)n;
}

static void parse_depths(struct bench *b, const char *list)
{
	for (b->ndepths = 0; list && b->ndepths < DEPTHS_MAX; b->ndepths++) {
		b->depths[b->ndepths] = number(list, 1, DEPTH_MAX);
		list = strchr(list, ',');
		list = list ? list + 1 : NULL;
	}
}

static void parse_arm(struct arm *a, char *text)
{
	char *path = strchr(text, '='), *pid;

	if (!path)
		errx(2, "%s: ARM=PATH[,PID] is wanted", text);
	*path++ = 0;
	pid = strchr(path, ',');
	if (pid)
		*pid++ = 0;
	*a = (struct arm){text, path, -1, pid ? (int)number(pid, 1, INT32_MAX) : 0};
}

int main(int argc, char **argv)
{
	static struct bench b = {.rounds = 5, .ms = 500};
	const char *command;
	uint64_t mib = 0;
	int opt;

	parse_depths(&b, "1,4,16,64");
	while ((opt = getopt(argc, argv, "r:m:t:q:")) != -1) {
		if (opt == 'r')
			b.rounds = number(optarg, 1, 1000);
		else if (opt == 'm')
			mib = number(optarg, 1, 1u << 20);
		else if (opt == 't')
			b.ms = number(optarg, 10, 60000);
		else if (opt == 'q')
			parse_depths(&b, optarg);
		else
			return 2;
	}
	if (argc - optind < 2 || argc - optind - 2 > ARMS_MAX)
		errx(2, "usage: bench_disk [OPTION]... COMMAND CORPUS [ARM=PATH[,PID]]...");
	command = argv[optind];
	mapped_open(&b.corpus, argv[optind + 1], mib << (20 - 12));
	for (int i = optind + 2; i < argc; i++) {
		parse_arm(&b.arms[b.narms], argv[i]);
		open_arm(&b.arms[b.narms++], b.corpus.count * MAPPED_PAGE);
	}
	if (strcmp(command, "fill") == 0)
		bench_fill(&b);
	else if (strcmp(command, "verify") == 0)
		verify(&b);
	else if (strcmp(command, "random") == 0)
		bench_random(&b);
	else if (strcmp(command, "dump") == 0)
		dump(&b);
	else
		errx(2, "%s: no such command", command);
	return 0;
}
