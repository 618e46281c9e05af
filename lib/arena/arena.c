/* SPDX-License-Identifier: MIT
 *
 * The arena's file: how it is made, attached to, and mapped.
 */
#include "arena/internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC UINT64_C(0x306d6172757a7a75) /* "uzzuram0" */
/* A test build must never serve a real arena, nor the other way round. */
#ifdef UZ_TEST_HOOKS
#define VERSION 1000
#else
#define VERSION 2
#endif

static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "slot entries are shared between processes");

/* --- the file --- */

/* A bound that bounds nothing. It is not 0, which lifts tmpfs's own limit for good: a tmpfs that
 * was made without a bound can't be given one. */
#define NO_BOUND (UINT64_C(1) << 60)

static int set_tmpfs_size(int fs, uint64_t bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, bytes);
	return fsconfig(fs, FSCONFIG_SET_STRING, "size", text, 0);
}

/* Make a tmpfs that is attached nowhere. Returns its root directory, or -errno: -EINVAL where
 * the kernel, before 6.4, does not know noswap. */
static int mount_tmpfs(bool noswap)
{
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC), mnt = -1, root = -1, err = 0;

	if (fs < 0)
		return -errno;
	if ((noswap && fsconfig(fs, FSCONFIG_SET_FLAG, "noswap", NULL, 0) < 0) ||
	    set_tmpfs_size(fs, NO_BOUND) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ||
	    (mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0)) < 0 ||
	    (root = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		err = -errno;
	close(fs);
	if (mnt >= 0)
		close(mnt);
	return err ? err : root;
}

/* Make the file. *ret_root is the root of the tmpfs that it is in, or -1: without the right to
 * mount it is a memfd. */
static int open_memory(int *ret_root)
{
	int root = mount_tmpfs(true), fd;

	if (root == -EINVAL)
		root = mount_tmpfs(false);
	*ret_root = root < 0 ? -1 : root;
	fd = root < 0 ? memfd_create("uzram-arena", MFD_CLOEXEC)
		      : openat(root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	fd = -errno;
	if (root >= 0)
		close(root);
	return fd;
}

/* The arena may grow by so much while the bound is being set; and how often that is tried. */
#define GROWTH	    (UINT64_C(1) << 20)
#define BOUND_TRIES 16

/* The lowest bound that the kernel takes, a little above the memory that there is. */
static int least_bound(int root, uint64_t *ret_bytes)
{
	struct statfs st;

	if (fstatfs(root, &st) < 0)
		return -errno;
	*ret_bytes = (uint64_t)(st.f_blocks - st.f_bfree) * (uint64_t)st.f_bsize + GROWTH;
	return 0;
}

/* 0, or -errno: -EINVAL: there is more memory by now. */
static int try_bound(int root, uint64_t bytes)
{
	uint64_t least = 0;
	int err = least_bound(root, &least), fs;

	if (err)
		return err;
	fs = fspick(root, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
	if (fs < 0)
		return -errno;
	/* The kernel insists on this flag if the tmpfs was made with it. Before Linux 6.4 it
	 * does not know the flag, and the call has no effect. */
	fsconfig(fs, FSCONFIG_SET_FLAG, "noswap", NULL, 0);
	if (set_tmpfs_size(fs, bytes > least ? bytes : least) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
		err = -errno;
	close(fs);
	return err;
}

int uz_arena_bound(int root, uint64_t bytes)
{
	int err = -EINVAL;

	for (int i = 0; i < BOUND_TRIES && err == -EINVAL; i++)
		err = try_bound(root, bytes ? bytes : NO_BOUND);
	return err;
}

/* --- the superblock --- */

static uint64_t superblock_sum(const struct uz_superblock *sb)
{
	return XXH3_64bits(sb, offsetof(struct uz_superblock, sum));
}

static void describe(uint64_t disksize, struct uz_superblock *sb)
{
	uint64_t table = disksize / UZ_PAGE_SIZE * sizeof(uint64_t);
	uint64_t span = UINT64_C(1) << 20;

	/* Each area has room for a device of incompressible pages. The eighth more is for
	 * zspages that are partly filled. */
	while (span < disksize + disksize / 8)
		span <<= 1;
	memset(sb, 0, sizeof(*sb));
	sb->magic = MAGIC;
	sb->version = VERSION;
	sb->page_size = UZ_PAGE_SIZE;
	sb->disksize = disksize;
	sb->table_off = UZ_PAGE_SIZE;
	sb->data_off = (sb->table_off + table + UZ_PAGE_SIZE - 1) & ~(uint64_t)(UZ_PAGE_SIZE - 1);
	sb->area_span = span;
	sb->sum = superblock_sum(sb);
}

static bool disksize_valid(uint64_t disksize)
{
	return disksize && disksize <= UZ_DISKSIZE_MAX && disksize % UZ_PAGE_SIZE == 0;
}

static uint64_t file_size(const struct uz_superblock *sb)
{
	return sb->data_off + UZ_UNIT_PAGES_MAX * sb->area_span;
}

/* Map fd, whose superblock is sb. The arena owns fd from here on, even on failure. */
static int map(int fd, const struct uz_superblock *sb, struct uz_arena **ret)
{
	struct uz_arena *a = aligned_alloc(64, sizeof(*a));
	void *p;
	int err;

	if (!a) {
		close(fd);
		return -ENOMEM;
	}
	memset(a, 0, sizeof(*a));
	a->fd = fd;
	a->root = -1;
	a->sb = *sb;
	a->map_size = file_size(sb);
	atomic_init(&a->limit, UINT64_MAX);
	atomic_init(&a->vain_at, UINT32_MAX); /* any value but that of `came` */
	p = mmap(NULL, a->map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED) {
		err = -errno;
		close(fd);
		free(a);
		return err;
	}
	a->map = p;
	a->table = (_Atomic uint64_t *)((char *)p + sb->table_off);
	a->data = (char *)p + sb->data_off;
	madvise(p, a->map_size, MADV_DONTDUMP);
	err = madvise(p, sb->data_off, MADV_POPULATE_WRITE) < 0 ? -errno : uz_areas_init(a);
	if (err) {
		uz_arena_free(a);
		return err;
	}
	*ret = a;
	return 0;
}

int uz_arena_new(uint64_t disksize, struct uz_arena **ret)
{
	struct uz_superblock sb;
	int fd, root, err;

	if (!disksize_valid(disksize))
		return -EINVAL;
	fd = open_memory(&root);
	if (fd < 0)
		return fd;
	describe(disksize, &sb);
	if (ftruncate(fd, (off_t)file_size(&sb)) < 0 || pwrite(fd, &sb, sizeof(sb), 0) < 0) {
		err = -errno;
		close(fd);
	} else {
		err = map(fd, &sb, ret);
	}
	if (!err)
		(*ret)->root = root;
	else if (root >= 0)
		close(root);
	return err;
}

/* Read the superblock of the arena behind fd. -EPROTO: it has none of this version. */
static int read_superblock(int fd, struct uz_superblock *ret)
{
	struct uz_superblock sb, want;
	struct stat st;

	if (pread(fd, &sb, sizeof(sb), 0) != sizeof(sb) || sb.magic != MAGIC ||
	    sb.version != VERSION || sb.sum != superblock_sum(&sb) || !disksize_valid(sb.disksize))
		return -EPROTO;
	/* The size determines everything else: this version makes no other superblock for it. */
	describe(sb.disksize, &want);
	if (memcmp(&sb, &want, sizeof(sb)) != 0)
		return -EPROTO;
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != file_size(&sb))
		return -EPROTO;
	*ret = sb;
	return 0;
}

int uz_arena_check(int fd, uint64_t *ret_disksize)
{
	struct uz_superblock sb;
	int err = read_superblock(fd, &sb);

	if (!err)
		*ret_disksize = sb.disksize;
	return err;
}

int uz_arena_attach(int fd, struct uz_arena **ret)
{
	struct uz_superblock sb;
	int err = read_superblock(fd, &sb);

	if (err)
		return err;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	return map(fd, &sb, ret);
}

void uz_arena_free(struct uz_arena *a)
{
	if (!a)
		return;
	uz_areas_done(a);
	munmap(a->map, a->map_size);
	close(a->fd);
	if (a->root >= 0)
		close(a->root);
	free(a);
}

int uz_arena_fd(const struct uz_arena *a)
{
	return a->fd;
}

int uz_arena_root(const struct uz_arena *a)
{
	return a->root;
}

uint64_t uz_arena_disksize(const struct uz_arena *a)
{
	return a->sb.disksize;
}

_Atomic uint64_t *uz_arena_table(struct uz_arena *a)
{
	return a->table;
}

uint64_t uz_arena_nslots(const struct uz_arena *a)
{
	return a->sb.disksize / UZ_PAGE_SIZE;
}
