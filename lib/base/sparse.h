/* SPDX-License-Identifier: MIT
 *
 * Large tables of which little is used: address space at once, memory page by page.
 *
 * Where the kernel does not overcommit (vm.overcommit_memory = 2) it ignores MAP_NORESERVE, and a
 * private mapping counts with its whole size. So this is a file in memory, whose pages count one by
 * one as they come. It belongs to one process: a child that is forked shares it.
 */
#ifndef UZ_BASE_SPARSE_H
#define UZ_BASE_SPARSE_H

#include <stddef.h>

/* size bytes of zeroes, to be freed by munmap(). NULL: there is no address space or no descriptor.
 * A page takes memory from the first touch on, be it a read; where there is none, that is a
 * SIGBUS, so have it by MADV_POPULATE_WRITE before. */
void *uz_sparse_new(size_t size);

#endif
