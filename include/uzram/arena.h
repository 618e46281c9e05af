/* SPDX-License-Identifier: MIT
 *
 * The arena: the shared memory that holds a device's pages and outlives the process that serves
 * them.
 *
 * It is one unlinked file on a tmpfs of its own, mapped as a whole: superblock, slot table, data.
 * A core dump does not have it. Its pages are never swapped out: the tmpfs is mounted with noswap;
 * where the kernel has no such option, before Linux 6.4, the caller locks them with mlockall(2).
 * Any process that holds the file descriptor can attach to the arena.
 */
#ifndef UZRAM_ARENA_H
#define UZRAM_ARENA_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* 4 TiB. A device takes up to 18 times its size of address space, and x86-64 has 128 TiB. */
#define UZ_DISKSIZE_MAX (UINT64_C(4) << 40)

struct uz_arena;

/* Make the arena of a device of disksize bytes, a multiple of UZ_PAGE_SIZE and at most
 * UZ_DISKSIZE_MAX. The slot table, 8 bytes a page, takes memory at once; data memory comes only
 * as it is needed. 0; -EINVAL (the size); -ENOMEM; or what mounting a tmpfs or creating a memfd
 * returned. */
int uz_arena_new(uint64_t disksize, struct uz_arena **ret);

/* Attach to the arena behind fd, which is duplicated. -EPROTO: it is no arena of this layout
 * version, or its geometry is impossible. It is left as it is then. */
int uz_arena_attach(int fd, struct uz_arena **ret);

/* Whether uz_arena_attach() would take the arena behind fd, as far as that depends on the arena.
 * It is not mapped. *ret_disksize is the device's size in bytes. 0 or -EPROTO. */
int uz_arena_check(int fd, uint64_t *ret_disksize);

/* Unmap the arena and close its descriptor. The memory is freed when the last descriptor and
 * mapping, in any process, are gone. NULL is allowed. */
void uz_arena_free(struct uz_arena *arena);

/* The file descriptor. It stays owned by the arena. */
int uz_arena_fd(const struct uz_arena *arena);

/* The root directory of the arena's tmpfs. It stays owned by the arena. -1: the arena was
 * attached, or the process that made it could not mount, so that the file is a memfd. */
int uz_arena_root(const struct uz_arena *arena);

/* Bound the memory of the arena that has that root, superblock and slot table included, to so
 * many bytes; 0: no bound. This protects the machine: a process that has the arena can populate
 * it as it likes, whatever the store's limit is. Memory that exists already stays, and if it is
 * more, its amount is the bound until this is called again. 0, or -errno: -EPERM without
 * CAP_SYS_ADMIN. */
int uz_arena_bound(int root, uint64_t bytes);

/* The device's size in bytes. */
uint64_t uz_arena_disksize(const struct uz_arena *arena);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
