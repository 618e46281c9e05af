/* SPDX-License-Identifier: MIT */
#include "mapped.h"

#include <err.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADDRESS_SPACE (UINT64_C(64) << 30) /* more than any corpus */

/* Map the whole pages of a file behind the others'; returns their number. */
static uint64_t map_file(unsigned char *at, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	size_t size;

	if (fd < 0 || fstat(fd, &st) < 0)
		err(2, "%s", path);
	size = (size_t)st.st_size / MAPPED_PAGE * MAPPED_PAGE;
	if (size && mmap(at, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		err(2, "mmap of %s", path);
	close(fd);
	return size / MAPPED_PAGE;
}

void mapped_open(struct mapped *s, const char *dir, uint64_t max)
{
	unsigned char *base = mmap(NULL, ADDRESS_SPACE, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char pattern[4096];
	uint64_t pages = 0, runs;
	glob_t files;

	if (base == MAP_FAILED)
		err(2, "no address space");
	snprintf(pattern, sizeof(pattern), "%s/*.pages", dir);
	if (glob(pattern, 0, NULL, &files))
		errx(2, "there is no %s", pattern);
	for (size_t i = 0; i < files.gl_pathc; i++)
		pages += map_file(base + pages * MAPPED_PAGE, files.gl_pathv[i]);
	globfree(&files);
	runs = pages / MAPPED_RUN;
	if (!runs)
		errx(2, "%s: no pages", dir);
	if (!max || max > runs * MAPPED_RUN)
		max = runs * MAPPED_RUN;
	s->base = base;
	s->step = (runs * MAPPED_RUN + max - 1) / max;
	s->count = runs / s->step * MAPPED_RUN;
}

const unsigned char *mapped_page(const struct mapped *s, uint64_t i)
{
	uint64_t run;

	i %= s->count;
	run = i / MAPPED_RUN * s->step;
	return s->base + (run * MAPPED_RUN + i % MAPPED_RUN) * MAPPED_PAGE;
}
