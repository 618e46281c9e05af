/* SPDX-License-Identifier: MIT
 *
 * What a bench has measured, as report.py reads it: one JSON line a figure on standard output,
 *
 *   {"what":"...", "arm":"...", "unit":"...", "better":"lower"|"higher", "values":[...]}
 *
 * with a value for each round. Figures of the same "what" with as many values were measured
 * alternating: value i of the one belongs to value i of the other. What a person may want to see
 * meanwhile goes to standard error.
 */
#ifndef UZ_BENCH_FIGURES_H
#define UZ_BENCH_FIGURES_H

#include <stdint.h>

enum better { LOWER, HIGHER };

/* Another round's value of the figure of that arm and what (a format). */
__attribute__((format(printf, 5, 6))) void figure_add(const char *arm, const char *unit,
						      enum better better, double value,
						      const char *what, ...);

/* Print what has come since the last call, medians also to standard error. */
void figures_print(void);

/* To standard error, with the program's name; the second exits. */
__attribute__((format(printf, 1, 2))) void progress(const char *format, ...);
__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);

/* The two times of a piece of work. */
struct stopwatch {
	uint64_t cpu_ns; /* of the calling thread */
	uint64_t wall_ns;
};

struct stopwatch stopwatch_now(void);
/* Add what has passed since start. */
void stopwatch_add(struct stopwatch *sum, const struct stopwatch *start);

/* CPU time of the whole process, ns. */
uint64_t process_cpu_ns(void);

#endif
