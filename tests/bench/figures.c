/* SPDX-License-Identifier: MIT */
#include "bench/figures.h"

#include <err.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/futex.h"

#define FIGURES_MAX 256

struct figure {
	char *what;
	const char *arm, *unit;
	enum better better;
	double *values;
	size_t count;
	bool printed;
};

static struct figure figures[FIGURES_MAX];
static unsigned nfigures;

static struct figure *find(const char *arm, const char *what)
{
	for (unsigned i = 0; i < nfigures; i++) {
		if (strcmp(figures[i].what, what) == 0 && strcmp(figures[i].arm, arm) == 0)
			return &figures[i];
	}
	if (nfigures == FIGURES_MAX)
		die("too many figures");
	return &figures[nfigures++];
}

void figure_add(const char *arm, const char *unit, enum better better, double value,
		const char *what, ...)
{
	struct figure *f;
	va_list args;
	char *text;
	int r;

	va_start(args, what);
	r = vasprintf(&text, what, args);
	va_end(args);
	if (r < 0)
		die("no memory");
	f = find(arm, text);
	if (f->what)
		free(text);
	else
		*f = (struct figure){text, arm, unit, better, NULL, 0, false};
	f->values = realloc(f->values, (f->count + 1) * sizeof(*f->values));
	if (!f->values)
		die("no memory");
	f->values[f->count++] = value;
}

static int compare(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return a < b ? -1 : a > b;
}

static void print_json(const struct figure *f)
{
	printf("{\"what\":\"%s\", \"arm\":\"%s\", \"unit\":\"%s\", \"better\":\"%s\", \"values\":[",
	       f->what, f->arm, f->unit, f->better == LOWER ? "lower" : "higher");
	for (size_t i = 0; i < f->count; i++)
		printf("%s%.6g", i ? ", " : "", f->values[i]);
	printf("]}\n");
}

/* The three quartiles of n values, or of the ratios of theirs. */
static void quartiles(const double *values, const double *to, size_t n, double ret[3])
{
	double *sorted = calloc(n, sizeof(*sorted));

	if (!sorted)
		die("no memory");
	for (size_t i = 0; i < n; i++)
		sorted[i] = to ? values[i] / to[i] : values[i];
	qsort(sorted, n, sizeof(*sorted), compare);
	ret[0] = sorted[n / 4];
	ret[1] = sorted[n / 2];
	ret[2] = sorted[n - 1 - n / 4];
	free(sorted);
}

/* The first arm is what the others are compared with. */
static void print_text(const struct figure *f, const struct figure *first)
{
	double q[3];

	if (f == first)
		fprintf(stderr, "  %s (%s)\n", f->what, f->unit);
	quartiles(f->values, NULL, f->count, q);
	fprintf(stderr, "    %-28s %9.4g  %9.4g .. %-9.4g", f->arm, q[1], q[0], q[2]);
	if (f != first && f->count == first->count) {
		quartiles(f->values, first->values, f->count, q);
		fprintf(stderr, " x %6.3f  %6.3f .. %.3f", q[1], q[0], q[2]);
	}
	fputc('\n', stderr);
}

/* All figures of one what, which its first arm gives away. Each is printed once. */
static void print_arms(struct figure *first)
{
	for (struct figure *f = first; f < figures + nfigures; f++) {
		if (f != first && strcmp(f->what, first->what) != 0)
			continue;
		print_json(f);
		print_text(f, first);
		f->printed = true;
	}
}

void figures_print(void)
{
	for (unsigned i = 0; i < nfigures; i++) {
		if (!figures[i].printed)
			print_arms(&figures[i]);
	}
	while (nfigures) {
		struct figure *f = &figures[--nfigures];

		free(f->what);
		free(f->values);
		*f = (struct figure){0};
	}
	fflush(stdout);
}

void progress(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vwarnx(format, args);
	va_end(args);
}

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	verrx(EXIT_FAILURE, format, args);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * UZ_NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

struct stopwatch stopwatch_now(void)
{
	return (struct stopwatch){clock_ns(CLOCK_THREAD_CPUTIME_ID), clock_ns(CLOCK_MONOTONIC)};
}

void stopwatch_add(struct stopwatch *sum, const struct stopwatch *start)
{
	struct stopwatch now = stopwatch_now();

	sum->cpu_ns += now.cpu_ns - start->cpu_ns;
	sum->wall_ns += now.wall_ns - start->wall_ns;
}

uint64_t process_cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}
