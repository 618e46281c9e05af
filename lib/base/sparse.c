/* SPDX-License-Identifier: MIT */
#include "base/sparse.h"

#include <sys/mman.h>
#include <unistd.h>

void *uz_sparse_new(size_t size)
{
	int fd = memfd_create("uzram-table", MFD_CLOEXEC);
	void *p = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (ftruncate(fd, (off_t)size) == 0)
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}
