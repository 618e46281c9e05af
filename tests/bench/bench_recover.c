/* SPDX-License-Identifier: MIT
 *
 * How long it takes from the death of a server to the first answer of the next.
 *
 *   bench_recover [MIB...]   of pages stored (default 256 1024 4096)
 *
 * A process fills an arena with pages that compress three to one, overwrites and discards some, and
 * is killed. The next one locks its memory as the daemon's server does, attaches, recovers, and
 * reads a page. Then it reads and overwrites pages at random: there are page faults, but none that
 * takes memory. Figures as in figures.h. Where memory can't be locked it says so and goes on.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/futex.h"
#include "bench/figures.h"
#include "model/pages.h"
#include "uzram/store.h"

#define ROUNDS	5
#define TOUCHES 20000 /* pages read and pages overwritten, of which the page faults are counted */

enum phase { DEATH, FORK, LOCK, ATTACH, STORE, FIRST_READ, PHASES };

static const char *const phase_names[PHASES] = {
	"death, until it can be waited for",
	"fork",
	"mlockall",
	"uz_arena_attach",
	"uz_store_new",
	"first read",
};

/* Shared by the processes. */
struct result {
	uint64_t ns[PHASES];
	uint64_t stored;
	long read_faults, write_faults, table_kib; /* page faults; growth of page tables */
	volatile bool filled;
};

/* Of a length that varies, so that every size class has objects; a third of it on average. */
static void make_page(struct rng *rng, unsigned char *page)
{
	size_t noise = 300 + rng_below(rng, 2050);

	memset(page, 'n', UZ_PAGE_SIZE);
	for (size_t i = 0; i < noise; i += sizeof(uint64_t)) {
		uint64_t word = rng_next(rng);

		memcpy(page + i, &word, sizeof(word));
	}
}

static void write_page(struct uz_worker *w, uint64_t slot, struct rng *rng)
{
	unsigned char page[UZ_PAGE_SIZE];
	int err;

	make_page(rng, page);
	err = uz_write(w, slot * UZ_PAGE_SIZE, UZ_PAGE_SIZE, page);
	if (err)
		die("write: %s", strerror(-err));
}

/* Not mapped in this process: mlockall(MCL_CURRENT) in its children would fill every hole. */
static int make_arena(uint64_t disksize)
{
	struct uz_arena *arena;
	int err = uz_arena_new(disksize, &arena), fd;

	if (err)
		die("can't make an arena: %s", strerror(-err));
	fd = fcntl(uz_arena_fd(arena), F_DUPFD_CLOEXEC, 0);
	uz_arena_free(arena);
	return fd;
}

static struct uz_arena *attach(int fd)
{
	struct uz_arena *arena;
	int err = uz_arena_attach(fd, &arena);

	if (err)
		die("can't attach: %s", strerror(-err));
	return arena;
}

static struct uz_worker *open_worker(struct uz_arena *arena)
{
	struct uz_store_config config = {
		.size = sizeof(config),
		.arena = arena,
		.codec = UZ_CODEC_LZ4,
		.level = 1,
		.reserve = 16 << 20, /* the daemon's default */
		.deferred = true,
		.defer_spares = 64,
		.defer_age_ms = 10,
	};
	struct uz_store *store;
	struct uz_worker *w;
	int err = uz_store_new(&config, &store);

	if (!err)
		err = uz_worker_new(store, &w);
	if (err)
		die("can't open the store: %s", strerror(-err));
	return w;
}

/* Every slot once; then a tenth is overwritten, and of as many each eighth page discarded. */
static void fill(int fd, struct result *r)
{
	struct uz_arena *arena = attach(fd);
	uint64_t nslots = uz_arena_disksize(arena) / UZ_PAGE_SIZE;
	struct uz_worker *w = open_worker(arena);
	struct rng rng;

	rng_init(&rng, 1, 1);
	for (uint64_t slot = 0; slot < nslots; slot++)
		write_page(w, slot, &rng);
	for (uint64_t i = 0; i < nslots / 10; i++) {
		uint64_t slot = rng_below(&rng, nslots);

		if (i % 8)
			write_page(w, slot, &rng);
		else
			uz_discard(w, slot * UZ_PAGE_SIZE, UZ_PAGE_SIZE);
	}
	r->filled = true;
	for (;;)
		pause();
}

static long minor_faults(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return ru.ru_minflt;
}

/* Of this process, KiB. */
static long page_tables(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kib = 0;

	while (f && !kib && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "VmPTE:", 6) == 0)
			kib = strtol(line + 6, NULL, 10);
	}
	if (f)
		fclose(f);
	return kib;
}

static void touch(struct uz_worker *w, uint64_t nslots, struct result *r)
{
	unsigned char page[UZ_PAGE_SIZE];
	struct rng rng;
	long before;

	r->table_kib = -page_tables();
	rng_init(&rng, 1, 2);
	before = minor_faults();
	for (unsigned i = 0; i < TOUCHES; i++)
		uz_read(w, rng_below(&rng, nslots) * UZ_PAGE_SIZE, UZ_PAGE_SIZE, page);
	r->read_faults = minor_faults() - before;
	before = minor_faults();
	for (unsigned i = 0; i < TOUCHES; i++)
		write_page(w, rng_below(&rng, nslots), &rng);
	r->write_faults = minor_faults() - before;
	r->table_kib += page_tables();
}

static uint64_t lap(uint64_t *t)
{
	uint64_t from = *t;

	*t = uz_now_ns();
	return *t - from;
}

static void recover(int fd, uint64_t forked, struct result *r)
{
	unsigned char page[UZ_PAGE_SIZE];
	uint64_t t = forked, size;
	struct uz_arena *arena;
	struct uz_worker *w;
	int err;

	r->ns[FORK] = lap(&t);
	if (mlockall(MCL_CURRENT) < 0 || mlockall(MCL_FUTURE | MCL_ONFAULT) < 0)
		perror("bench_recover: going on without locked memory");
	r->ns[LOCK] = lap(&t);
	arena = attach(fd);
	r->ns[ATTACH] = lap(&t);
	w = open_worker(arena);
	r->ns[STORE] = lap(&t);
	size = uz_arena_disksize(arena);
	err = uz_read(w, size / 2, UZ_PAGE_SIZE, page);
	if (err)
		die("read: %s", strerror(-err));
	r->ns[FIRST_READ] = lap(&t);
	touch(w, size / UZ_PAGE_SIZE, r);
	r->filled = true;
	for (;;)
		pause();
}

static pid_t spawn(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	return pid;
}

static void await(pid_t pid, const struct result *r)
{
	while (!r->filled) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			exit(EXIT_FAILURE);
		usleep(10000);
	}
}

static uint64_t end(pid_t pid)
{
	uint64_t t = uz_now_ns();

	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return uz_now_ns() - t;
}

static void report(uint64_t mib, uint64_t ns[PHASES][ROUNDS], const struct result *r)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t sum = 0;

		for (unsigned i = 0; i < PHASES; i++)
			sum += ns[i][round];
		figure_add("all, from death to answer", "ms", LOWER, (double)sum / 1e6,
			   "recovery of %llu MiB", (unsigned long long)mib);
		for (unsigned i = 0; i < PHASES; i++)
			figure_add(phase_names[i], "ms", LOWER, (double)ns[i][round] / 1e6,
				   "recovery of %llu MiB", (unsigned long long)mib);
	}
	figures_print();
	progress("%u reads: %ld page faults; %u writes: %ld; page tables grew by %ld KiB", TOUCHES,
		 r->read_faults, TOUCHES, r->write_faults, r->table_kib);
}

static void bench(uint64_t mib, struct result *r)
{
	uint64_t ns[PHASES][ROUNDS];
	int fd = make_arena(mib << 20);
	pid_t pid;

	r->filled = false;
	pid = spawn();
	if (!pid)
		fill(fd, r);
	await(pid, r);
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t forked;

		r->ns[DEATH] = end(pid);
		r->filled = false;
		forked = uz_now_ns();
		pid = spawn();
		if (!pid)
			recover(fd, forked, r);
		await(pid, r);
		for (unsigned i = 0; i < PHASES; i++)
			ns[i][round] = r->ns[i];
	}
	end(pid);
	report(mib, ns, r);
	close(fd);
}

int main(int argc, char **argv)
{
	static const uint64_t sizes[] = {256, 1024, 4096};
	struct result *r =
		mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (r == MAP_FAILED)
		die("no memory: %s", strerror(errno));
	for (int i = 1; i < argc; i++)
		bench(strtoull(argv[i], NULL, 0), r);
	for (unsigned i = 0; argc < 2 && i < sizeof(sizes) / sizeof(sizes[0]); i++)
		bench(sizes[i], r);
	return 0;
}
