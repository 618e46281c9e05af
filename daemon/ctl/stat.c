/* SPDX-License-Identifier: MIT
 *
 * uzramctl stat: everything that a device says of itself, for people to read.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"
#include "uzram/codec.h"

#define TABLE_ENTRY 8 /* bytes a page: uzram/arena.h */

/* The columns of io_stat and defer_stat. */
enum {
	IO_FAILED_READS,
	IO_FAILED_WRITES,
	IO_INVALID,
	IO_NOTIFY_FREE,
	IO_FAILED_LIMIT,
	IO_FAILED_MEMORY,
	IO_COLUMNS
};
enum {
	DEFER_PUSHED,
	DEFER_DRAINED,
	DEFER_FALLBACKS,
	DEFER_PENDING,
	DEFER_PENDING_BYTES,
	DEFER_SPARE,
	DEFER_RUNS,
	DEFER_COLUMNS,
};

struct stats {
	struct ctl_device device;
	uint64_t pid, io[IO_COLUMNS], defer[DEFER_COLUMNS];
};

static int load(void *name, void *ret)
{
	struct stats *s = ret;
	int err = ctl_device_load(name, &s->device);

	if (!err)
		err = ctl_read_numbers(name, "pid", &s->pid, 1);
	if (!err)
		err = ctl_read_numbers(name, "io_stat", s->io, IO_COLUMNS);
	if (!err)
		err = ctl_read_numbers(name, "defer_stat", s->defer, DEFER_COLUMNS);
	return err;
}

static __attribute__((format(printf, 2, 3))) void row(const char *label, const char *format, ...)
{
	va_list ap;

	printf("%-22s ", label);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
}

static void row_number(const char *label, uint64_t number)
{
	row(label, "%llu", (unsigned long long)number);
}

static void row_size(const char *label, uint64_t bytes, bool plain)
{
	char text[CTL_SIZE_TEXT];

	row(label, "%s", ctl_size_text(bytes, plain, text));
}

static void row_ratio(const char *label, uint64_t bytes, uint64_t into)
{
	if (into)
		row(label, "%.2f", (double)bytes / (double)into);
	else
		row(label, "-");
}

static void print_device(const char *name, const struct stats *s, bool plain)
{
	const struct ctl_device *d = &s->device;

	row("Device:", "%s", name);
	row("Block device:", "%s", d->block_device);
	row("In use as:", "%s", *d->mountpoint ? d->mountpoint : "-");
	row_number("Daemon's process:", s->pid);
	row_number("Workers:", d->workers);
	row("Algorithm:", "%s", d->algorithm);
	row_size("Size:", d->size, plain);
}

/* What swap uses is less than what is stored where the kernel doesn't say of each page that it has
 * become free, and more where it keeps pages to itself: zeroes (Linux 6.12), or what zswap has. */
static void print_memory(const struct ctl_device *d, bool plain)
{
	const uint64_t *mm = d->mm;

	if (d->swap_used >= 0)
		row_size("Used by swap:", (uint64_t)d->swap_used, plain);
	row_size("Stored:", mm[MM_ORIG], plain);
	row_size("Compressed:", mm[MM_COMPR], plain);
	row_ratio("  ratio:", mm[MM_ORIG], mm[MM_COMPR]);
	row_size("Memory used:", mm[MM_USED], plain);
	row_ratio("  ratio:", mm[MM_ORIG], mm[MM_USED]);
	row_size("  highest:", mm[MM_USED_MAX], plain);
	if (mm[MM_LIMIT])
		row_size("  limit:", mm[MM_LIMIT], plain);
	else
		row("  limit:", "none");
	row_size("Slot table:", d->size / UZ_PAGE_SIZE * TABLE_ENTRY, plain);
	row_number("Same-filled pages:", mm[MM_SAME]);
	row_number("Incompressible pages:", mm[MM_HUGE]);
	row_number("  since the start:", mm[MM_HUGE_SINCE]);
	row_number("Compacted pages:", mm[MM_COMPACTED]);
}

static void print_work(const struct stats *s, bool plain)
{
	row_number("Deferred frees:", s->defer[DEFER_PUSHED]);
	row_number("  done:", s->defer[DEFER_DRAINED]);
	row_number("  not deferred:", s->defer[DEFER_FALLBACKS]);
	row_number("  pending:", s->defer[DEFER_PENDING]);
	row_size("  pending memory:", s->defer[DEFER_PENDING_BYTES], plain);
	row_number("  drain runs:", s->defer[DEFER_RUNS]);
	row_number("  spare buffers:", s->defer[DEFER_SPARE]);
	row_number("Failed reads:", s->io[IO_FAILED_READS]);
	row_number("Failed writes:", s->io[IO_FAILED_WRITES]);
	row_number("  for the limit:", s->io[IO_FAILED_LIMIT]);
	row_number("  for memory:", s->io[IO_FAILED_MEMORY]);
	row_number("Invalid requests:", s->io[IO_INVALID]);
	row_number("Discarded pages:", s->io[IO_NOTIFY_FREE]);
}

int ctl_stat(const struct ctl_args *args)
{
	struct stats s;
	int err = ctl_bounded(load, (void *)(uintptr_t)args->device, &s, sizeof(s),
			      ctl_now_ms() + args->timeout);

	if (err)
		return ctl_fail(args->device, "cannot read", err);
	print_device(args->device, &s, args->bytes);
	print_memory(&s.device, args->bytes);
	print_work(&s, args->bytes);
	return EXIT_SUCCESS;
}
