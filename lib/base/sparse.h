/* SPDX-License-Identifier: MIT
 *
 * Large tables of which little is used: they take address space at once, and memory page by
 * page.
 *
 * Where the kernel does not overcommit (vm.overcommit_memory = 2) it ignores MAP_NORESERVE, and
 * a private mapping counts with its whole size. So a table is a file in memory, whose pages
 * count one by one as they come. It belongs to one process: a child that is forked would share
 * it.
 */
#ifndef UZ_BASE_SPARSE_H
#define UZ_BASE_SPARSE_H

#include <stddef.h>

/* Make a table of size bytes, all zero; munmap() frees it. NULL: there is no address space, or
 * no file descriptor.
 *
 * A page takes memory at its first touch, even if that is a read. Where the kernel has no memory
 * for it, the touch is a SIGBUS: populate the page with MADV_POPULATE_WRITE first, which can
 * fail. */
void *uz_sparse_new(size_t size);

#endif
