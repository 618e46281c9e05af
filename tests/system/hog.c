/* SPDX-License-Identifier: MIT
 *
 * A memory hog that knows what every page must hold: run in a memory cgroup smaller than its size,
 * it proves the swap device beneath it.
 *
 * The content of a page follows from (seed, page, pass): made up, or, with -c, a page of the
 * corpus. Each pass walks all pages in another order, compares each with what the pass before wrote
 * and writes the new content; afterwards some runs of pages are dropped with MADV_DONTNEED, which
 * frees their swap slots, and must read as zeroes. A last pass only compares. Every child process
 * works on memory of its own and ends with one line, times in milliseconds:
 *
 *   hog child=0 mib=750 pass_ms=812,1490,1511 verify_ms=701 munmap_ms=24 run_ms=4514 wrong=0
 *
 * The exit status is 0 if every page of every child was right. SIGTERM makes the pass that is going
 * on the last but the comparing one.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/mapped.h"

#define PAGE_SIZE    4096u
#define PAGE_WORDS   (PAGE_SIZE / sizeof(uint64_t))
#define RUN_PAGES    64u /* pages are dropped in runs of this length, one run in eight */
#define PASSES_MAX   64u
#define CHILDREN_MAX 1024u

struct hog {
	uint64_t seed;
	uint64_t pages;
	unsigned passes;
	unsigned child;
	bool hold;
	uint64_t *base;
	uint64_t wrong;
	unsigned pass_ms[PASSES_MAX + 1]; /* the last is the comparing pass */
};

static pid_t children[CHILDREN_MAX]; /* 0: none, as in every child */
static volatile sig_atomic_t enough;
static struct mapped corpus; /* empty: make pages up */

static void on_sigterm(int signal)
{
	enough = 1;
	for (unsigned i = 0; i < CHILDREN_MAX && children[i]; i++)
		kill(children[i], SIGTERM);
}

/* splitmix64's finaliser */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static unsigned now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (unsigned)t.tv_sec * 1000 + (unsigned)(t.tv_nsec / 1000000);
}

/* One page in eight repeats one word, one is incompressible; in the others every fifth word is new,
 * which lz4 packs about 3:1. */
static void page_fill(const struct hog *h, uint64_t page, unsigned pass, uint64_t *words)
{
	uint64_t rng = mix(h->seed ^ mix(page ^ (uint64_t)pass << 48));
	unsigned kind = rng & 7;

	if (corpus.count) {
		memcpy(words, mapped_page(&corpus, rng), PAGE_SIZE);
		return;
	}
	for (size_t i = 0; i < PAGE_WORDS; i++) {
		if (kind == 0)
			words[i] = rng;
		else if (kind == 1 || i % 5 == 0 || i < 10)
			words[i] = rng = mix(rng);
		else
			words[i] = words[i - 10];
	}
}

static bool page_dropped(const struct hog *h, uint64_t page, unsigned pass)
{
	return mix(h->seed + mix(page / RUN_PAGES + ((uint64_t)pass << 40))) % 8 == 0;
}

static void page_check(struct hog *h, uint64_t page, unsigned pass)
{
	static uint64_t expected[PAGE_WORDS];
	const uint64_t *found = h->base + page * PAGE_WORDS;
	size_t i = 0;

	if (page_dropped(h, page, pass))
		memset(expected, 0, sizeof(expected));
	else
		page_fill(h, page, pass, expected);
	if (memcmp(expected, found, PAGE_SIZE) == 0)
		return;
	if (h->wrong++ > 0)
		return;
	while (expected[i] == found[i] && i < PAGE_WORDS - 1)
		i++;
	warnx("child %u: first wrong page %llu (written in pass %u) at byte %zu: %016llx instead "
	      "of %016llx",
	      h->child, (unsigned long long)page, pass, i * sizeof(*found),
	      (unsigned long long)found[i], (unsigned long long)expected[i]);
}

/* The next page in random order: a full-period generator over the next power of two, whose numbers
 * beyond the last page are skipped. */
static uint64_t page_random(const struct hog *h, uint64_t *state)
{
	unsigned bits = 1;
	uint64_t page;

	while (h->pages >> bits)
		bits++;
	do {
		*state = (*state * 0x5851f42d4c957f2d + 0x14057b7ef767814f) & ((1ull << bits) - 1);
		page = *state ^ *state >> (bits + 1) / 2; /* else the low bits would count */
	} while (page >= h->pages);
	return page;
}

static void run_pass(struct hog *h, unsigned pass)
{
	uint64_t state = mix(h->seed + pass);
	unsigned start = now_ms();

	for (uint64_t i = 0; i < h->pages; i++) {
		uint64_t page = pass % 3 == 1	? page_random(h, &state)
				: pass % 3 == 2 ? h->pages - 1 - i
						: i;

		if (pass > 0)
			page_check(h, page, pass - 1);
		if (pass < h->passes)
			page_fill(h, page, pass, h->base + page * PAGE_WORDS);
	}
	for (uint64_t page = 0; page < h->pages && pass < h->passes; page += RUN_PAGES) {
		uint64_t run = h->pages - page < RUN_PAGES ? h->pages - page : RUN_PAGES;

		if (page_dropped(h, page, pass) &&
		    madvise(h->base + page * PAGE_WORDS, run * PAGE_SIZE, MADV_DONTNEED) < 0)
			err(2, "madvise");
	}
	h->pass_ms[pass] = now_ms() - start;
}

/* Say so and keep the memory until standard input is closed. */
static void hold(const struct hog *h)
{
	char c;

	printf("hog child=%u holding\n", h->child);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
}

static int run_child(struct hog *h)
{
	size_t size = h->pages * PAGE_SIZE;
	unsigned sum = 0, start;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		err(2, "prctl");
	h->base = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (h->base == MAP_FAILED)
		err(2, "mmap of %zu bytes", size);
	for (unsigned pass = 0; pass <= h->passes; pass++) {
		if (pass == h->passes && h->hold)
			hold(h);
		run_pass(h, pass);
		sum += h->pass_ms[pass];
		if (enough && pass < h->passes)
			h->passes = pass + 1;
	}
	start = now_ms();
	if (munmap(h->base, size) < 0)
		err(2, "munmap");
	start = now_ms() - start;

	printf("hog child=%u mib=%zu pass_ms=", h->child, size >> 20);
	for (unsigned pass = 0; pass < h->passes; pass++)
		printf("%s%u", pass ? "," : "", h->pass_ms[pass]);
	printf(" verify_ms=%u munmap_ms=%u run_ms=%u wrong=%llu\n", h->pass_ms[h->passes], start,
	       sum, (unsigned long long)h->wrong);
	return h->wrong ? 1 : 0;
}

/* 0 if the next child to end was content. */
static int reap(void)
{
	int status;
	pid_t pid = wait(&status);

	if (pid < 0)
		err(2, "wait");
	if (WIFSIGNALED(status))
		warnx("process %d was killed by signal %d (%s)", (int)pid, WTERMSIG(status),
		      strsignal(WTERMSIG(status)));
	return status ? 1 : 0;
}

static unsigned long number(const char *text, unsigned long min, unsigned long max)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 0);
	if (errno || end == text || *end || value < min || value > max)
		errx(2, "%s: a number from %lu to %lu is wanted", text, min, max);
	return value;
}

int main(int argc, char **argv)
{
	struct hog h = {.seed = (uint64_t)time(NULL), .passes = 3};
	struct sigaction term = {.sa_handler = on_sigterm, .sa_flags = SA_RESTART};
	unsigned long mib = 64, count = 1;
	int opt, failed = 0;

	while ((opt = getopt(argc, argv, "m:p:s:k:c:w")) != -1) {
		if (opt == 'm')
			mib = number(optarg, 1, 1ul << 20);
		else if (opt == 'p')
			h.passes = (unsigned)number(optarg, 1, PASSES_MAX);
		else if (opt == 's')
			h.seed = number(optarg, 0, UINT64_MAX);
		else if (opt == 'k')
			count = number(optarg, 1, CHILDREN_MAX);
		else if (opt == 'c')
			mapped_open(&corpus, optarg, 0);
		else if (opt == 'w')
			h.hold = true;
		else
			errx(2, "usage: hog [-m MIB] [-p PASSES] [-s SEED] [-k CHILDREN] [-c "
				"CORPUS] [-w]\n"
				"-m is the sum of all children; with -w they wait for end of file "
				"on standard "
				"input before the last, comparing, pass");
	}
	setlinebuf(stdout);
	printf("hog seed=%llu\n", (unsigned long long)h.seed);
	h.pages = (mib << 20) / PAGE_SIZE / count;
	sigaction(SIGTERM, &term, NULL);
	for (unsigned i = 0; i < count; i++) {
		struct hog own = h;
		pid_t pid = fork();

		if (pid < 0)
			err(2, "fork");
		own.child = i;
		own.seed = mix(h.seed + i);
		if (pid == 0) {
			memset(children, 0, sizeof(children));
			exit(run_child(&own));
		}
		children[i] = pid;
	}
	for (unsigned i = 0; i < count; i++)
		failed |= reap();
	return failed;
}
