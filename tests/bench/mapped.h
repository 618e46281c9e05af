/* SPDX-License-Identifier: MIT
 *
 * A sample of the corpus, mapped. It is shared page cache: a process in a memory cgroup isn't
 * charged for what somebody outside has read before.
 */
#ifndef BENCH_MAPPED_H
#define BENCH_MAPPED_H

#include <stdint.h>

#define MAPPED_PAGE 4096u
#define MAPPED_RUN  64u /* pages that stay together */

struct mapped {
	const unsigned char *base; /* of the corpus */
	uint64_t count;		   /* pages; a multiple of MAPPED_RUN */
	uint64_t step;		   /* one run of so many is in it */
};

/* Map the files DIR/NAME.pages, and take at most max pages of them, evenly spread (0: all). Ends
 * the program if that can't be done. They stay mapped. */
void mapped_open(struct mapped *s, const char *dir, uint64_t max);

/* Page i of the sample, modulo its size; it and the rest of its run follow each other. */
const unsigned char *mapped_page(const struct mapped *s, uint64_t i);

#endif
