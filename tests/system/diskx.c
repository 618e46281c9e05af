/* SPDX-License-Identifier: MIT
 *
 * Random reads, writes, discards and zeroings on a file or block device, against a model in memory.
 *
 * Each thread owns one range of the target, the model of that range, and its random numbers: what
 * thread T does follows from (seed, T) alone, so a failure replays with the same options. Ranges
 * meet at page boundaries, or, with -u, at any byte: then two threads write to one page at once.
 * That is only for targets that are not in the page cache, whose mixture of buffered and direct I/O
 * on one page is not coherent; use one mode (-b or -d) for block devices and ordinary files with
 * several threads.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE_SIZE 4096u
#define LEN_BITS  20 /* an operation has at most 2^20 bytes */
#define LEN_MAX	  (1u << LEN_BITS)
#define HISTORY	  8u

enum kind { KIND_READ, KIND_WRITE, KIND_DISCARD, KIND_PUNCH, KIND_ZERO, KIND_SYNC };

static const char *const kind_names[] = {"read", "write", "discard", "punch", "zero", "sync"};

enum mode { MODE_MIXED, MODE_BUFFERED, MODE_DIRECT };

static const char *const mode_options[] = {"", " -b", " -d"};

struct op {
	enum kind kind;
	bool direct;
	uint64_t off;
	uint64_t len;
};

struct target {
	const char *path;
	int buffered, direct; /* descriptors */
	bool block;
	unsigned direct_align;
	unsigned hole_align;
	enum mode mode;
};

struct worker {
	pthread_t thread;
	const struct target *target;
	unsigned id;
	unsigned long ops;
	unsigned long done;
	uint64_t rng;
	uint64_t start, len; /* the range */
	uint8_t *model;
	uint8_t *buf;		 /* LEN_MAX, page aligned */
	struct op past[HISTORY]; /* a ring, the newest at done % HISTORY */
};

struct options {
	uint64_t seed, off, len;
	unsigned long ops;
	unsigned threads;
	bool unaligned;
};

static pthread_mutex_t failing = PTHREAD_MUTEX_INITIALIZER;

static uint64_t rnd(struct worker *w)
{
	uint64_t x = w->rng += 0x9e3779b97f4a7c15; /* splitmix64 */

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

/* Report, with the way there, and end the whole program. The first thread to get here keeps the
 * lock. */
__attribute__((format(printf, 2, 3), noreturn)) static void fail(const struct worker *w,
								 const char *fmt, ...)
{
	va_list args;

	pthread_mutex_lock(&failing);
	fprintf(stderr, "diskx: %s: thread %u, operation %lu: ", w->target->path, w->id, w->done);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\nthe thread's last operations, newest first:\n");
	for (unsigned i = 0; i < HISTORY && i <= w->done; i++) {
		const struct op *op = &w->past[(w->done - i) % HISTORY];

		fprintf(stderr, "  %-7s %-8s offset %10llu length %7llu\n", kind_names[op->kind],
			op->direct ? "direct" : "buffered", (unsigned long long)op->off,
			(unsigned long long)op->len);
	}
	_exit(1);
}

/* Bytes that a compressor makes much, little or nothing of. */
static void fill(struct worker *w, uint8_t *buf, size_t len)
{
	static const unsigned periods[] = {1, 8, 700, LEN_MAX};
	unsigned p = periods[rnd(w) % 4]; /* the content repeats after that many bytes */
	uint64_t word = 0;

	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0)
			word = rnd(w);
		buf[i] = i < p ? (uint8_t)(word >> i % 8 * 8) : buf[i - p];
	}
}

static void compare(const struct worker *w, const uint8_t *expected, uint64_t off, size_t len)
{
	size_t i = 0;

	if (memcmp(expected, w->buf, len) == 0)
		return;
	while (expected[i] == w->buf[i])
		i++;
	fail(w, "wrong data at offset %llu (byte %zu of this read): %02x instead of %02x",
	     (unsigned long long)(off + i), i, w->buf[i], expected[i]);
}

static int block_range(const struct target *t, unsigned long request, const struct op *op)
{
	uint64_t range[2] = {op->off, op->len};

	return ioctl(t->buffered, request, range);
}

static int make_hole(const struct target *t, const struct op *op)
{
	int mode = op->kind == KIND_ZERO ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;

	if (t->block && op->kind == KIND_DISCARD)
		return block_range(t, BLKDISCARD, op);
	if (t->block && op->kind == KIND_ZERO)
		return block_range(t, BLKZEROOUT, op);
	return fallocate(t->buffered, mode | FALLOC_FL_KEEP_SIZE, (off_t)op->off, (off_t)op->len);
}

/* Carry out op on the target and on the model. */
static void perform(struct worker *w, const struct op *op)
{
	const struct target *t = w->target;
	uint8_t *model = w->model + (op->off - w->start);
	int fd = op->direct ? t->direct : t->buffered;
	ssize_t n = (ssize_t)op->len;

	switch (op->kind) {
	case KIND_READ:
		memset(w->buf, 0xa5, op->len);
		n = pread(fd, w->buf, op->len, (off_t)op->off);
		break;
	case KIND_WRITE:
		fill(w, w->buf, op->len);
		memcpy(model, w->buf, op->len);
		n = pwrite(fd, w->buf, op->len, (off_t)op->off);
		break;
	case KIND_SYNC:
		if (fsync(t->buffered) < 0)
			n = -1;
		break;
	default:
		memset(model, 0, op->len);
		if (make_hole(t, op) < 0)
			n = -1;
	}
	if (n != (ssize_t)op->len)
		fail(w, "%s: %s", kind_names[op->kind], n < 0 ? strerror(errno) : "short");
	if (op->kind == KIND_READ)
		compare(w, model, op->off, op->len);
}

static bool choose_direct(struct worker *w)
{
	enum mode mode = w->target->mode;

	return mode == MODE_DIRECT || (mode == MODE_MIXED && rnd(w) % 2);
}

/* Short and long operations are equally likely by powers of two. */
static struct op choose(struct worker *w)
{
	static const enum kind kinds[] = {
		KIND_READ,    KIND_READ,  KIND_READ,  KIND_READ,  KIND_READ,  KIND_READ,
		KIND_WRITE,   KIND_WRITE, KIND_WRITE, KIND_WRITE, KIND_WRITE, KIND_WRITE,
		KIND_DISCARD, KIND_PUNCH, KIND_ZERO,  KIND_SYNC,
	};
	struct op op = {.kind = kinds[rnd(w) % (sizeof(kinds) / sizeof(kinds[0]))],
			.direct = choose_direct(w)};
	unsigned align = 1;
	uint64_t first, last;

	op.len = 1 + rnd(w) % (1u << rnd(w) % (LEN_BITS + 1));
	if (op.len > w->len)
		op.len = w->len;
	op.off = w->start + rnd(w) % (w->len - op.len + 1);

	if (op.kind >= KIND_DISCARD)
		align = w->target->hole_align;
	else if (op.direct)
		align = w->target->direct_align;
	first = op.off / align * align;
	last = (op.off + op.len + align - 1) / align * align;
	op.off = first;
	op.len = last - first < LEN_MAX ? last - first : LEN_MAX;
	return op;
}

static void verify_all(struct worker *w)
{
	for (uint64_t done = 0; done < w->len; done += LEN_MAX) {
		uint64_t left = w->len - done;
		struct op op = {.kind = KIND_READ,
				.direct = w->target->mode == MODE_DIRECT,
				.off = w->start + done,
				.len = left < LEN_MAX ? left : LEN_MAX};

		w->past[w->done % HISTORY] = op;
		perform(w, &op);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (; w->done < w->ops; w->done++) {
		struct op op = choose(w);

		w->past[w->done % HISTORY] = op;
		perform(w, &op);
	}
	verify_all(w);
	return NULL;
}

/* Where the range of thread i begins (that of thread o->threads: where the last one ends). */
static uint64_t range_start(const struct options *o, unsigned i)
{
	uint64_t start = o->len / o->threads * i;

	if (i == 0 || i == o->threads)
		return o->off + (i ? o->len : 0);
	return o->off + (o->unaligned ? start | 1021 : start / PAGE_SIZE * PAGE_SIZE);
}

/* Read what w's range holds now, and set the thread to work. */
static void worker_start(struct worker *w, const struct options *o)
{
	w->rng = o->seed * 1000003 + w->id;
	w->start = range_start(o, w->id);
	w->len = range_start(o, w->id + 1) - w->start;
	w->model = malloc(w->len);
	if (!w->model || posix_memalign((void **)&w->buf, PAGE_SIZE, LEN_MAX))
		errx(2, "out of memory");
	for (uint64_t done = 0; done < w->len;) {
		ssize_t n = pread(w->target->buffered, w->model + done, w->len - done,
				  (off_t)(w->start + done));

		if (n <= 0)
			err(2, "%s: reading its present content", w->target->path);
		done += (uint64_t)n;
	}
	errno = pthread_create(&w->thread, NULL, work, w);
	if (errno)
		err(2, "pthread_create");
}

/* Open t->path; the size is returned. */
static uint64_t target_open(struct target *t)
{
	struct stat st;
	off_t size;
	int sector = 512;

	t->buffered = open(t->path, O_RDWR | O_CLOEXEC);
	t->direct = open(t->path, O_RDWR | O_CLOEXEC | O_DIRECT);
	if (t->buffered < 0 || t->direct < 0 || fstat(t->buffered, &st) < 0)
		err(2, "%s", t->path);
	t->block = S_ISBLK(st.st_mode);
	if (t->block && ioctl(t->buffered, BLKSSZGET, &sector) < 0)
		err(2, "%s: BLKSSZGET", t->path);
	t->direct_align = (unsigned)sector;
	t->hole_align = t->block ? PAGE_SIZE : 1;
	size = lseek(t->buffered, 0, SEEK_END);
	if (size < 0)
		err(2, "%s: lseek", t->path);
	return (uint64_t)size;
}

static uint64_t number(const char *text, uint64_t max)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno || end == text || *end || value > max)
		errx(2, "%s: a number up to %llu is wanted", text, (unsigned long long)max);
	return value;
}

static void parse(int argc, char **argv, struct options *o, struct target *t)
{
	int opt;

	while ((opt = getopt(argc, argv, "s:t:n:o:l:bdu")) != -1) {
		if (opt == 's')
			o->seed = number(optarg, UINT32_MAX);
		else if (opt == 't')
			o->threads = (unsigned)number(optarg, 64);
		else if (opt == 'n')
			o->ops = number(optarg, UINT32_MAX);
		else if (opt == 'o')
			o->off = number(optarg, INT64_MAX) / PAGE_SIZE * PAGE_SIZE;
		else if (opt == 'l')
			o->len = number(optarg, INT64_MAX);
		else if (opt == 'b')
			t->mode = MODE_BUFFERED;
		else if (opt == 'd')
			t->mode = MODE_DIRECT;
		else if (opt == 'u')
			o->unaligned = true;
		else
			optind = argc;
	}
	if (optind != argc - 1 || o->threads == 0)
		errx(2,
		     "usage: diskx [-s SEED] [-t THREADS] [-n OPERATIONS] [-o OFFSET] [-l LENGTH]\n"
		     "             [-b | -d] [-u] FILE\n"
		     "-n counts per thread; -o and -l (bytes, whole pages) choose a part of FILE;\n"
		     "-b: buffered I/O only, -d: direct I/O only, else both;\n"
		     "-u lets the threads' ranges meet inside pages");
	t->path = argv[optind];
}

/* Make o->off and o->len fit the target, and print the command that repeats this run. */
static void settle(struct options *o, const struct target *t, uint64_t size)
{
	if (o->off >= size)
		errx(2, "%s has only %llu bytes", t->path, (unsigned long long)size);
	o->len = (o->len < size - o->off ? o->len : size - o->off) / PAGE_SIZE * PAGE_SIZE;
	if (o->len / o->threads < 2 * PAGE_SIZE)
		errx(2, "less than two pages for each thread");
	printf("replay: diskx -s %llu -t %u -n %lu -o %llu -l %llu%s%s %s\n",
	       (unsigned long long)o->seed, o->threads, o->ops, (unsigned long long)o->off,
	       (unsigned long long)o->len, mode_options[t->mode], o->unaligned ? " -u" : "",
	       t->path);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct options o = {
		.seed = (uint32_t)time(NULL), .len = UINT64_MAX, .ops = 2000, .threads = 1};
	struct target t = {.mode = MODE_MIXED};
	struct worker *workers;

	parse(argc, argv, &o, &t);
	settle(&o, &t, target_open(&t));
	if (o.unaligned)
		t.direct_align = 1;
	workers = calloc(o.threads, sizeof(*workers));
	if (!workers)
		errx(2, "out of memory");
	for (unsigned i = 0; i < o.threads; i++) {
		workers[i] = (struct worker){.target = &t, .id = i, .ops = o.ops};
		worker_start(&workers[i], &o);
	}
	for (unsigned i = 0; i < o.threads; i++)
		pthread_join(workers[i].thread, NULL);
	printf("diskx: %lu operations by each of %u threads, all data right\n", o.ops, o.threads);
	return 0;
}
