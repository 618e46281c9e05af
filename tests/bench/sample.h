/* SPDX-License-Identifier: MIT
 *
 * Pages of real programs, from the corpus that tests/bench/corpus makes: files *.pages, one or more
 * a program.
 */
#ifndef UZ_BENCH_SAMPLE_H
#define UZ_BENCH_SAMPLE_H

#include <stdint.h>

#define SAMPLE_FILES_MAX 64

struct sample {
	char *name; /* of the corpus */
	unsigned char *pages;
	uint64_t npages;
	/* File i's pages are those from first[i] up to first[i + 1]. */
	unsigned nfiles;
	uint64_t first[SAMPLE_FILES_MAX + 1];
};

/* Load the corpus in dir, or every n-th run of its pages, of all files alike, about max_pages
 * together. Exits if it can't. */
void sample_load(struct sample *s, const char *dir, uint64_t max_pages);
void sample_free(struct sample *s);

/* Page i modulo their number. */
const unsigned char *sample_page(const struct sample *s, uint64_t i);

/* Memory as swap's own is: small pages. All of it is touched. */
void *small_pages(uint64_t size);

#endif
