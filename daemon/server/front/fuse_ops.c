/* SPDX-License-Identifier: MIT */
#define FUSE_USE_VERSION 314
#include "server/front/fuse_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>

#include "server/control/jobs.h"
#include "server/control/snapshot.h"
#include "server/latency.h"

/* The control files' inodes have the numbers of the table, from 3 on. */
enum { ROOT_INO = FUSE_ROOT_ID, DISK_INO = 2 };

/* Seconds that the kernel may keep names for: what a number means never changes. Attributes it asks
 * for each time. The disk's blocks change with every write; and after an upgrade the kernel must
 * not go by another version's modes. */
#define FOREVER 86400.0

#define DISK_NAME "disk"

#define DISCARD_STEP (UINT64_C(1) << 30) /* bytes */

static struct fuse_thread *thread_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* NULL: no such control file. */
static const struct attribute *attribute_of(fuse_ino_t ino)
{
	for (unsigned i = 0; i < control_attribute_count; i++) {
		if (control_attributes[i].number == ino)
			return &control_attributes[i];
	}
	return NULL;
}

/* The sign turns here: errors are negative inside, positive in FUSE's replies. */
static void reply_result(fuse_req_t req, int err)
{
	fuse_reply_err(req, -err);
}

/* --- names and attributes --- */

static void fill_disk(struct fuse_thread *t, struct stat *st)
{
	st->st_mode = S_IFREG | t->control->config->disk_mode;
	st->st_uid = t->control->config->disk_user;
	st->st_gid = t->control->config->disk_group;
	st->st_size = (off_t)uz_store_disksize(t->store);
	st->st_blocks = (blkcnt_t)(uz_store_pages_stored(t->store) * (UZ_PAGE_SIZE / 512));
}

static bool fill_stat(struct fuse_thread *t, fuse_ino_t ino, struct stat *st)
{
	const struct attribute *a = attribute_of(ino);

	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	st->st_nlink = 1;
	st->st_blksize = UZ_PAGE_SIZE;
	st->st_atime = st->st_mtime = st->st_ctime = t->control->state->since;
	if (ino == ROOT_INO) {
		st->st_mode = S_IFDIR | 0755;
		st->st_nlink = 2;
	} else if (ino == DISK_INO) {
		fill_disk(t, st);
	} else if (a) {
		/* How long the text will be nobody can know. As in sysfs the size is the most that
		 * it may be: with 0 sendfile(2), and so busybox's cat, would find nothing. And it
		 * is a block's, so that tail(1) does not look for the end there. */
		st->st_mode = S_IFREG | a->mode;
		st->st_size = st->st_blksize = CONTROL_TEXT_MAX;
	} else {
		return false;
	}
	return true;
}

static fuse_ino_t find_name(const char *name)
{
	if (strcmp(name, DISK_NAME) == 0)
		return DISK_INO;
	for (unsigned i = 0; i < control_attribute_count; i++) {
		if (strcmp(name, control_attributes[i].name) == 0)
			return control_attributes[i].number;
	}
	return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {.entry_timeout = FOREVER};

	e.ino = parent == ROOT_INO ? find_name(name) : 0;
	if (!e.ino) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fill_stat(thread_of(req), e.ino, &e.attr);
	fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	if (fill_stat(thread_of(req), ino, &st))
		fuse_reply_attr(req, &st, 0);
	else
		fuse_reply_err(req, ENOENT);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	struct stat st;
	bool resize = ino == DISK_INO && (to_set & FUSE_SET_ATTR_SIZE);

	/* The shell's > truncates a control file: let it. Times are not kept; the rest is as it is.
	 */
	if (!fill_stat(thread_of(req), ino, &st))
		fuse_reply_err(req, ENOENT);
	else if ((to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) ||
		 (resize && attr->st_size != st.st_size))
		fuse_reply_err(req, EPERM);
	else
		fuse_reply_attr(req, &st, 0);
}

static size_t add_name(fuse_req_t req, char *buf, size_t size, const char *name, fuse_ino_t ino,
		       mode_t type, off_t next)
{
	struct stat st = {.st_ino = ino, .st_mode = type};

	return fuse_add_direntry(req, buf, size, name, &st, next);
}

/* Offsets are positions in the list ".", "..", disk, attributes. */
static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	char *buf = thread_of(req)->reply;
	size_t used = 0;

	if (size > FUSE_OPS_IO_MAX)
		size = FUSE_OPS_IO_MAX;
	for (; off < 3 + (off_t)control_attribute_count; off++) {
		size_t room = size - used, n;

		if (off < 2)
			n = add_name(req, buf + used, room, off ? ".." : ".", ROOT_INO, S_IFDIR,
				     off + 1);
		else if (off == 2)
			n = add_name(req, buf + used, room, DISK_NAME, DISK_INO, S_IFREG, off + 1);
		else
			n = add_name(req, buf + used, room, control_attributes[off - 3].name,
				     control_attributes[off - 3].number, S_IFREG, off + 1);
		if (n > room)
			break;
		used += n;
	}
	fuse_reply_buf(req, buf, used);
}

/* No blocks and no inodes: this is no file system that can fill up, and df leaves it out. But the
 * loop driver takes the block size for that of discards. */
static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	const struct statvfs st = {
		.f_bsize = UZ_PAGE_SIZE, .f_frsize = UZ_PAGE_SIZE, .f_namemax = 255};

	fuse_reply_statfs(req, &st);
}

/* As in sysfs, a file that can't be read or written can't be opened for that, not by root either;
 * and there are no other files to be made. */
static bool may_open(const struct attribute *a, int flags)
{
	int access = flags & O_ACCMODE;

	return (access == O_WRONLY || a->show) && (access == O_RDONLY || a->set);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	fuse_reply_err(req, EACCES);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct attribute *a = attribute_of(ino);
	struct control *c = thread_of(req)->control;
	/* No page cache before memory that is one: every read and write comes here, at any offset
	 * and size. And writes to the disk come side by side, as to any disk: its slots have locks,
	 * and its size never changes. Older kernels ignore that flag.
	 *
	 * The reply is made here, since fuse_reply_open() knows the flag from libfuse 3.15 on only.
	 */
	struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO};

	if (a && !may_open(a, fi->flags)) {
		fuse_reply_err(req, EACCES);
		return;
	}
	if (a && (fi->flags & O_ACCMODE) != O_WRONLY)
		out.fh = snapshots_open(c->snapshots, c, a);
	else if (ino == DISK_INO)
		out.open_flags |= FOPEN_PARALLEL_DIRECT_WRITES;
	fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (fi->fh)
		snapshots_close(thread_of(req)->control->snapshots, fi->fh);
	fuse_reply_err(req, 0);
}

/* --- data --- */

static void read_attribute(fuse_req_t req, const struct attribute *a, size_t size, off_t off,
			   uint64_t handle)
{
	struct fuse_thread *t = thread_of(req);
	int len;

	if (!a || !a->show) {
		fuse_reply_err(req, EIO);
		return;
	}
	if (size > FUSE_OPS_IO_MAX)
		size = FUSE_OPS_IO_MAX;
	len = snapshots_read(t->control->snapshots, handle, t->control, a, (uint64_t)off, t->reply,
			     size);
	if (len < 0)
		reply_result(req, len);
	else
		fuse_reply_buf(req, t->reply, (size_t)len);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct fuse_thread *t = thread_of(req);
	uint64_t disksize = uz_store_disksize(t->store);
	bool alone;
	int err;

	if (ino != DISK_INO) {
		read_attribute(req, attribute_of(ino), size, off, fi->fh);
		return;
	}
	/* Behind the end of a file there is nothing, which is no error. */
	if ((uint64_t)off >= disksize) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	if (size > disksize - (uint64_t)off)
		size = disksize - (uint64_t)off;
	if (size > FUSE_OPS_IO_MAX)
		size = FUSE_OPS_IO_MAX;
	alone = latency_begin(t->latency);
	err = uz_read(t->worker, (uint64_t)off, size, t->reply);
	if (err)
		reply_result(req, err);
	else
		fuse_reply_buf(req, t->reply, size);
	latency_end(t->latency, alone);
}

/* A control file's write is answered when its work is done. */
static void attribute_written(const struct waiter *w, int err)
{
	if (err)
		reply_result(w->request, err);
	else
		fuse_reply_write(w->request, w->size);
}

static void write_attribute(fuse_req_t req, const struct attribute *a, const char *buf, size_t size)
{
	const struct waiter w = {attribute_written, req, size};

	if (a && a->set)
		control_set(thread_of(req)->control, a, buf, size, &w);
	else
		fuse_reply_err(req, EIO);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct fuse_thread *t = thread_of(req);
	uint64_t disksize = uz_store_disksize(t->store);
	int err;

	if (ino != DISK_INO) {
		write_attribute(req, attribute_of(ino), buf, size);
		return;
	}
	/* As a block device does: up to the end, and beyond it nothing. */
	if ((uint64_t)off >= disksize && size) {
		fuse_reply_err(req, ENOSPC);
		return;
	}
	if (size > disksize - (uint64_t)off)
		size = disksize - (uint64_t)off;
	err = uz_write(t->worker, (uint64_t)off, size, buf);
	if (err)
		reply_result(req, err);
	else
		fuse_reply_write(req, size);
}

/* In steps, since it may well be the whole of a large device: whoever watches sees it go on. */
static int discard(struct fuse_thread *t, uint64_t off, uint64_t end)
{
	int err = 0;

	while (off < end && !err) {
		uint64_t len = end - off < DISCARD_STEP ? end - off : DISCARD_STEP;

		err = uz_discard(t->worker, off, len);
		off += len;
		front_thread_step(&t->thread);
		front_thread_step(&t->thread);
	}
	return err;
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	uint64_t disksize = uz_store_disksize(thread_of(req)->store);
	uint64_t end = (uint64_t)off + (uint64_t)len;
	/* Discards come as PUNCH_HOLE, write-zeroes as ZERO_RANGE: the same to us. */
	bool frees = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);

	if (ino != DISK_INO ||
	    (mode & ~(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)))
		fuse_reply_err(req, EOPNOTSUPP);
	else if (end > disksize && !(frees && mode & FALLOC_FL_KEEP_SIZE))
		fuse_reply_err(req, ENOSPC); /* the disk does not grow */
	else if (!frees)
		fuse_reply_err(req, 0); /* there is room for all of it from the start */
	else
		reply_result(req, discard(thread_of(req), (uint64_t)off,
					  end < disksize ? end : disksize));
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0); /* a write that was answered is stored */
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	conn->want &=
		~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->max_write = FUSE_OPS_IO_MAX;
	conn->max_background = 64;
	conn->congestion_threshold = 64;
}

const struct fuse_lowlevel_ops fuse_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readdir = op_readdir,
	.statfs = op_statfs,
	.create = op_create,
	.open = op_open,
	.release = op_release,
	.read = op_read,
	.write = op_write,
	.fallocate = op_fallocate,
	.fsync = op_fsync,
};
