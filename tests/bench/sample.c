/* SPDX-License-Identifier: MIT */
#include "bench/sample.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/figures.h"
#include "uzram/codec.h"

#define RUN_PAGES 64 /* what is taken of a file, or left, at a time: programs have regions */

void *small_pages(uint64_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("no memory for %llu bytes", (unsigned long long)size);
	madvise(p, size, MADV_NOHUGEPAGE);
	madvise(p, size, MADV_POPULATE_WRITE);
	return p;
}

const unsigned char *sample_page(const struct sample *s, uint64_t i)
{
	return s->pages + i % s->npages * UZ_PAGE_SIZE;
}

static uint64_t file_pages(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		die("%s: %s", path, strerror(errno));
	return (uint64_t)st.st_size / UZ_PAGE_SIZE;
}

/* How many of a file's n pages are in every step-th run. */
static uint64_t taken(uint64_t n, uint64_t step)
{
	uint64_t sum = 0;

	for (uint64_t from = 0; from < n; from += step * RUN_PAGES)
		sum += n - from < RUN_PAGES ? n - from : RUN_PAGES;
	return sum;
}

static void load_file(const char *path, uint64_t step, unsigned char *to)
{
	uint64_t n = file_pages(path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	for (uint64_t from = 0; from < n; from += step * RUN_PAGES) {
		size_t len = (n - from < RUN_PAGES ? n - from : RUN_PAGES) * UZ_PAGE_SIZE;

		if (pread(fd, to, len, (off_t)(from * UZ_PAGE_SIZE)) != (ssize_t)len)
			die("%s: can't be read", path);
		to += len;
	}
	close(fd);
}

/* What corpus.json, which is beside the pages, calls the corpus; or else the directory's name. */
static char *corpus_name(const char *dir)
{
	char *path, line[256], *name = NULL;
	FILE *f;

	if (asprintf(&path, "%s/corpus.json", dir) < 0)
		die("no memory");
	f = fopen(path, "re");
	free(path);
	while (f && !name && fgets(line, sizeof(line), f))
		sscanf(line, " \"name\": \"%m[^\"]", &name);
	if (f)
		fclose(f);
	return name ? name : strdup(strrchr(dir, '/') ? strrchr(dir, '/') + 1 : dir);
}

void sample_load(struct sample *s, const char *dir, uint64_t max_pages)
{
	uint64_t total = 0, step;
	char *pattern;
	glob_t files;

	if (asprintf(&pattern, "%s/*.pages", dir) < 0)
		die("no memory");
	if (glob(pattern, 0, NULL, &files) || files.gl_pathc > SAMPLE_FILES_MAX)
		die("%s: no corpus, or one of too many files", dir);
	free(pattern);
	for (size_t i = 0; i < files.gl_pathc; i++)
		total += file_pages(files.gl_pathv[i]);
	step = (total + max_pages - 1) / max_pages;
	s->nfiles = (unsigned)files.gl_pathc;
	for (unsigned i = 0; i < s->nfiles; i++)
		s->first[i + 1] = s->first[i] + taken(file_pages(files.gl_pathv[i]), step);
	s->npages = s->first[s->nfiles];
	if (!s->npages)
		die("%s: an empty corpus", dir);
	s->pages = small_pages(s->npages * UZ_PAGE_SIZE);
	for (unsigned i = 0; i < s->nfiles; i++)
		load_file(files.gl_pathv[i], step, s->pages + s->first[i] * UZ_PAGE_SIZE);
	globfree(&files);
	s->name = corpus_name(dir);
}

void sample_free(struct sample *s)
{
	munmap(s->pages, s->npages * UZ_PAGE_SIZE);
	free(s->name);
}
