/* SPDX-License-Identifier: MIT
 *
 * daemon/attach on the real kernel: what it made is judged by the programs that users will look
 * with.
 *
 * The tests run in a child, and its parent clears away what is left whatever became of it: failed,
 * crashed, hung or killed. Other programs may use loop devices and swap of their own meanwhile.
 */
#include "supervisor/host/attach.h"

/* cmocka.h wants these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FUSE_USE_VERSION 31
#include <fuse3/fuse.h>

#define DISK_SIZE    (16 << 20)
#define TEST_SECONDS 60

static char scratch[PATH_MAX]; /* directory of everything the tests make */
static pid_t runner;

/* --- tools --- */

/* The command's standard output without its last newline; the result of the next call takes its
 * place. */
__attribute__((format(printf, 1, 2))) static const char *output(const char *format, ...)
{
	static char text[16384];
	char command[2 * PATH_MAX];
	va_list args;
	size_t n;
	FILE *f;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	f = popen(command, "re");
	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	pclose(f);
	while (n && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	return text;
}

static const char *in_scratch(const char *name, char path[PATH_MAX])
{
	assert_true(snprintf(path, PATH_MAX, "%s/%s", scratch, name) < PATH_MAX);
	return path;
}

/* A file of size bytes, all of them allocated; its path is stored in path. */
static void make_file(const char *name, size_t size, char path[PATH_MAX])
{
	char *data = malloc(size);
	int fd = open(in_scratch(name, path), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	assert_non_null(data);
	memset(data, 0xaa, size);
	assert_int_equal(write(fd, data, size), (ssize_t)size);
	assert_int_equal(fsync(fd), 0);
	close(fd);
	free(data);
}

static void make_device(const char *name, size_t size, char path[PATH_MAX],
			char dev[ATTACH_PATH_MAX])
{
	make_file(name, size, path);
	assert_int_equal(attach_loop(path, 4096, dev), 0);
}

static bool is_attached(const char *dev, const char *file)
{
	return !strcmp(output("losetup -nO BACK-FILE %s 2>/dev/null", dev), file);
}

static void detach(const char *dev, const char *file)
{
	assert_int_equal(attach_unloop(dev, file), 0);
	assert_false(is_attached(dev, file));
}

static int64_t allocated(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_blocks * 512;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct hold {
	pthread_t thread;
	int fd;
	unsigned ms;
};

static void *hold_thread(void *arg)
{
	struct hold *h = arg;

	usleep(h->ms * 1000);
	close(h->fd);
	return NULL;
}

/* Hold dev open for some milliseconds from now on. */
static void hold(struct hold *h, const char *dev, int flags, unsigned ms)
{
	h->fd = open(dev, O_RDONLY | O_CLOEXEC | flags);
	h->ms = ms;
	assert_true(h->fd >= 0);
	assert_int_equal(pthread_create(&h->thread, NULL, hold_thread, h), 0);
}

/* --- loop --- */

static void expect_losetup_json(const char *dev, const char *file, int block_size)
{
	char want[PATH_MAX + 64];
	const char *json = output("losetup --json -l %s", dev);

	snprintf(want, sizeof(want), "\"name\": \"%s\",", dev);
	assert_non_null(strstr(json, want));
	snprintf(want, sizeof(want), "\"back-file\": \"%s\"", file);
	assert_non_null(strstr(json, want));
	snprintf(want, sizeof(want), "\"log-sec\": %d", block_size);
	assert_non_null(strstr(json, want));
	assert_non_null(strstr(json, "\"dio\": true"));
	assert_non_null(strstr(json, "\"autoclear\": false"));
	assert_non_null(strstr(json, "\"ro\": false"));
}

/* In us. A loop device that was never attached, or not by us, has one. */
static int throttled_at(const char *dev)
{
	return atoi(output("cat /sys/block/%s/queue/wbt_lat_usec", dev + strlen("/dev/")));
}

static void test_loop_is_not_throttled(void **state)
{
	char file[PATH_MAX], dev[ATTACH_PATH_MAX];

	make_file("disk", DISK_SIZE, file);
	snprintf(dev, sizeof(dev), "%s", output("losetup -f"));
	assert_int_equal(attach_set_queue(dev, "wbt_lat_usec", "-1"), 0); /* the default */
	assert_true(throttled_at(dev) > 0);
	assert_int_equal(attach_loop(file, 4096, dev), 0);
	assert_int_equal(throttled_at(dev), 0);
	assert_int_equal(attach_set_queue(dev, "wbt_lat_usec", "much"), -EINVAL);
	assert_int_equal(attach_set_queue(dev, "none", "0"), -ENOENT);
	detach(dev, file);
}

static void test_loop_looks_as_expected(void **state)
{
	static const int sizes[] = {512, 4096};
	char file[PATH_MAX], dev[ATTACH_PATH_MAX];
	struct loop_info64 info;

	make_file("disk", DISK_SIZE, file);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		int fd;

		assert_int_equal(attach_loop(file, (unsigned)sizes[i], dev), 0);
		expect_losetup_json(dev, file, sizes[i]);
		assert_int_equal(atoi(output("blockdev --getss %s", dev)), sizes[i]);
		assert_int_equal(atoi(output("blockdev --getsize64 %s", dev)), DISK_SIZE);
		fd = open(dev, O_RDONLY | O_CLOEXEC);
		assert_int_equal(ioctl(fd, LOOP_GET_STATUS64, &info), 0);
		assert_string_equal((char *)info.lo_file_name, file);
		close(fd);
		detach(dev, file);
	}
}

/* A file system on blocks of 4096 bytes can't do direct I/O in blocks of 512. */
static void test_no_direct_io_is_an_error(void **state)
{
	char lower[PATH_MAX], mount[PATH_MAX], file[PATH_MAX];
	char lower_dev[ATTACH_PATH_MAX], dev[ATTACH_PATH_MAX] = "untouched";

	make_device("lower", 64 << 20, lower, lower_dev);
	output("mkfs.ext4 -q %s && mkdir %s && mount %s %s", lower_dev, in_scratch("mnt", mount),
	       lower_dev, mount);
	make_file("mnt/disk", DISK_SIZE, file);
	assert_int_equal(attach_loop(file, 512, dev), -EINVAL);
	assert_string_equal(dev, "untouched");
	assert_string_equal(output("losetup -nO BACK-FILE | grep -x %s", file), "");
	assert_int_equal(attach_loop(file, 4096, dev), 0);
	detach(dev, file);

	assert_int_equal(attach_unloop(lower_dev, lower), -EBUSY); /* is mounted */
	assert_string_equal(output("losetup -nO AUTOCLEAR %s | tr -d ' '", lower_dev), "0");
	output("umount %s", mount);
	detach(lower_dev, lower);
}

static void test_loop_refuses(void **state)
{
	char file[PATH_MAX], other[PATH_MAX], dev[ATTACH_PATH_MAX];

	make_file("disk", DISK_SIZE, file);
	assert_int_equal(attach_loop(in_scratch("none", other), 4096, dev), -ENOENT);
	assert_int_equal(attach_loop(scratch, 4096, dev), -EISDIR);
	assert_int_equal(attach_loop(file, 1234, dev), -EINVAL);
	assert_int_equal(attach_loop(in_scratch("./disk", other), 4096, dev), -EINVAL);
	assert_int_equal(symlink(file, in_scratch("link", other)), 0);
	assert_int_equal(attach_loop(other, 4096, dev), -EINVAL);
	assert_string_equal(output("losetup -nO BACK-FILE | grep -F %s", scratch), "");
}

/* The kernel offers a free device that someone has claimed; it refuses to configure it. */
static void test_claimed_device_is_no_error(void **state)
{
	char file[PATH_MAX], dev[ATTACH_PATH_MAX];
	struct hold claim;

	make_file("disk", DISK_SIZE, file);
	snprintf(dev, sizeof(dev), "%s", output("losetup -f"));
	hold(&claim, dev, O_EXCL, 200);
	assert_int_equal(attach_loop(file, 4096, dev), 0);
	pthread_join(claim.thread, NULL);
	detach(dev, file);
}

struct racer {
	pthread_t thread;
	pthread_barrier_t *start;
	char file[PATH_MAX];
	char dev[ATTACH_PATH_MAX];
	int err;
};

static void *race(void *arg)
{
	struct racer *r = arg;

	pthread_barrier_wait(r->start);
	r->err = attach_loop(r->file, 4096, r->dev);
	return NULL;
}

static void test_racing_attaches_get_a_device_each(void **state)
{
	enum { RACERS = 12 };
	static struct racer racers[RACERS];
	pthread_barrier_t start;
	char name[16];

	pthread_barrier_init(&start, NULL, RACERS);
	for (int i = 0; i < RACERS; i++) {
		snprintf(name, sizeof(name), "racer%d", i);
		make_file(name, 65536, racers[i].file);
		racers[i].start = &start;
		assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
	}
	for (int i = 0; i < RACERS; i++)
		pthread_join(racers[i].thread, NULL);
	for (int i = 0; i < RACERS; i++) {
		assert_int_equal(racers[i].err, 0);
		assert_true(is_attached(racers[i].dev, racers[i].file));
	}
	for (int i = 0; i < RACERS; i++)
		detach(racers[i].dev, racers[i].file);
	pthread_barrier_destroy(&start);
}

static void test_unloop_spares_what_is_not_ours(void **state)
{
	char file[PATH_MAX], dev[ATTACH_PATH_MAX], part[PATH_MAX], longer[PATH_MAX];

	make_device("disk", DISK_SIZE, file, dev);
	assert_int_equal(attach_unloop(dev, in_scratch("dis", part)), 0);
	assert_int_equal(attach_unloop(dev, in_scratch("disk2", longer)), 0);
	assert_true(is_attached(dev, file));
	detach(dev, file);
	detach(dev, file);
	assert_int_equal(attach_unloop("/dev/loop-none", file), 0);
}

static void test_unloop_of_a_deleted_file(void **state)
{
	char file[PATH_MAX], dev[ATTACH_PATH_MAX], deleted[PATH_MAX + 16];

	make_device("disk", DISK_SIZE, file, dev);
	assert_int_equal(unlink(file), 0);
	snprintf(deleted, sizeof(deleted), "%s (deleted)", file);
	assert_true(is_attached(dev, deleted));
	assert_int_equal(attach_unloop(dev, file), 0);
	assert_false(is_attached(dev, deleted));
}

static void test_unloop_waits_for_other_openers(void **state)
{
	char file[PATH_MAX], dev[ATTACH_PATH_MAX];
	struct hold reader;
	double start;

	make_device("disk", DISK_SIZE, file, dev);
	hold(&reader, dev, 0, 300);
	start = now();
	detach(dev, file);
	assert_true(now() - start > 0.25);
	pthread_join(reader.thread, NULL);

	make_device("disk", DISK_SIZE, file, dev);
	hold(&reader, dev, 0, 6500);
	start = now();
	assert_int_equal(attach_unloop(dev, file), -EBUSY);
	assert_true(now() - start > 4.5);
	assert_true(is_attached(dev, file));
	pthread_join(reader.thread, NULL);
	assert_false(is_attached(dev, file));
}

/* --- a server that stops answering --- */

static char server_disk[DISK_SIZE];
static bool stubborn; /* it has a file system's signature, whatever is written over it */

#define SIGNATURE    "\1CD001\1" /* of ISO 9660 */
#define SIGNATURE_AT 32768

static int server_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	bool root = !strcmp(path, "/");

	if (!root && strcmp(path, "/disk"))
		return -ENOENT;
	st->st_mode = root ? S_IFDIR | 0755 : S_IFREG | 0600;
	st->st_nlink = 1;
	st->st_size = root ? 0 : DISK_SIZE;
	return 0;
}

static int server_read(const char *path, char *data, size_t n, off_t at, struct fuse_file_info *fi)
{
	memcpy(data, server_disk + at, n);
	if (stubborn && at <= SIGNATURE_AT && (size_t)(SIGNATURE_AT - at) + 7 <= n)
		memcpy(data + (SIGNATURE_AT - at), SIGNATURE, 7);
	return (int)n;
}

static int server_write(const char *path, const char *data, size_t n, off_t at,
			struct fuse_file_info *fi)
{
	memcpy(server_disk + at, data, n);
	return (int)n;
}

static const struct fuse_operations server_ops = {
	.getattr = server_getattr,
	.read = server_read,
	.write = server_write,
};

/* Times of validity are zero so that whatever asks for the file asks the server. */
static void serve(const char *dir, int ready)
{
	char name[] = "server", option[] = "-oattr_timeout=0,entry_timeout=0",
	     *argv[] = {name, option};
	struct fuse_args args = FUSE_ARGS_INIT(2, argv);
	struct fuse *fuse = fuse_new(&args, &server_ops, sizeof(server_ops), NULL);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!fuse || fuse_mount(fuse, dir) || write(ready, "", 1) != 1)
		_exit(1);
	fuse_loop(fuse);
	_exit(0);
}

static pid_t start_server(const char *dir)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(mkdir(dir, 0755), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (!pid)
		serve(dir, ready[1]);
	assert_true(pid > 0);
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void kill_server(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_unloop_needs_no_living_server(void **state)
{
	char dir[PATH_MAX], file[PATH_MAX], dev[ATTACH_PATH_MAX];
	pid_t pid = start_server(in_scratch("fuse", dir));

	assert_int_equal(attach_loop(in_scratch("fuse/disk", file), 4096, dev), 0);
	expect_losetup_json(dev, file, 4096);
	assert_int_equal(attach_mkswap(dev, "frozen"), 0);
	kill(pid, SIGSTOP);
	waitpid(pid, NULL, WUNTRACED);
	assert_int_equal(attach_unloop(dev, file), 0);
	kill(pid, SIGCONT);
	assert_false(is_attached(dev, file));

	assert_int_equal(attach_loop(file, 4096, dev), 0);
	kill_server(pid);
	assert_int_equal(access(file, F_OK), -1); /* makes the kernel lose sight of the name */
	assert_true(attach_is_backed_by(dev, file));
	assert_int_equal(attach_unloop(dev, file), 0);
	assert_int_not_equal(
		strncmp(output("losetup -nO BACK-FILE %s 2>&1", dev), file, strlen(file)), 0);
	output("umount %s", dir);
	assert_int_equal(rmdir(dir), 0);
}

/* --- swap --- */

static void test_mkswap_is_mkswaps(void **state)
{
	char file[PATH_MAX], dev[ATTACH_PATH_MAX], model[PATH_MAX], uuid[2][64];

	for (int i = 0; i < 2; i++) {
		make_device("disk", DISK_SIZE, file, dev);
		assert_int_equal(attach_mkswap(dev, "a label too long"), 0);
		assert_string_equal(output("blkid -p -o value -s TYPE %s", dev), "swap");
		assert_string_equal(output("blkid -p -o value -s VERSION %s", dev), "1");
		assert_string_equal(output("blkid -p -o value -s LABEL %s", dev),
				    "a label too lon");
		snprintf(uuid[i], sizeof(uuid[i]), "%s",
			 output("blkid -p -o value -s UUID %s", dev));
		assert_int_equal(strlen(uuid[i]), 36);
		detach(dev, file);

		make_file("model", DISK_SIZE, model);
		output("mkswap -q -U %s -L 'a label too lon' %s", uuid[i], model);
		assert_string_equal(output("cmp -n 4096 %s %s 2>&1", file, model), "");
	}
	assert_string_not_equal(uuid[0], uuid[1]);
}

static void test_mkswap_wipes_old_signatures(void **state)
{
	char file[PATH_MAX], dev[ATTACH_PATH_MAX];
	int fd;

	make_device("disk", DISK_SIZE, file, dev);
	output("mkfs.ext4 -q %s", dev);
	fd = open(dev, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, SIGNATURE, 7, SIGNATURE_AT), 7);
	close(fd);
	const char *find = output("wipefs -nO TYPE --noheadings %s", dev);
	assert_non_null(strstr(find, "ext4"));
	assert_non_null(strstr(find, "iso9660"));
	assert_int_equal(attach_mkswap(dev, "new"), 0);
	assert_string_equal(output("wipefs -nO TYPE --noheadings %s", dev), "swap");
	detach(dev, file);
}

/* Nothing is left where a signature could be: of a partition table's second half, or by chance in
 * what was in the last swap area. */
static void test_mkswap_wipes_both_ends(void **state)
{
	char file[PATH_MAX], dev[ATTACH_PATH_MAX];

	make_device("disk", DISK_SIZE, file, dev);
	output("tr '\\0' x </dev/zero | dd of=%s bs=1M iflag=fullblock count=%d status=none", dev,
	       DISK_SIZE >> 20);
	assert_int_equal(attach_mkswap(dev, "new"), 0);
	assert_string_equal(output("head -c 4M %s | tail -c +4097 | tr -d '\\0' | wc -c", dev),
			    "0");
	assert_string_equal(output("tail -c 4M %s | tr -d '\\0' | wc -c", dev), "0");
	detach(dev, file);
}

/* What the server says is there is nothing to go by. */
static void test_mkswap_looks_at_nothing(void **state)
{
	char dir[PATH_MAX], file[PATH_MAX], dev[ATTACH_PATH_MAX];
	pid_t pid;

	stubborn = true;
	pid = start_server(in_scratch("fuse", dir));
	stubborn = false;
	assert_int_equal(attach_loop(in_scratch("fuse/disk", file), 4096, dev), 0);
	assert_non_null(strstr(output("wipefs -nO TYPE --noheadings %s", dev), "iso9660"));
	assert_int_equal(attach_mkswap(dev, "new"), 0);
	assert_non_null(strstr(output("wipefs -nO TYPE --noheadings %s", dev), "swap"));
	detach(dev, file);
	kill_server(pid);
	output("umount %s", dir);
	assert_int_equal(rmdir(dir), 0);
}

static void test_mkswap_refuses(void **state)
{
	char file[PATH_MAX], dev[ATTACH_PATH_MAX];

	make_device("small", 9 * 4096, file, dev);
	assert_int_equal(attach_mkswap(dev, "small"), -EINVAL);
	detach(dev, file);
	make_device("least", 10 * 4096, file, dev);
	assert_int_equal(attach_mkswap(dev, "least"), 0);
	assert_int_equal(attach_swapon(dev, -1, false), 0);
	assert_int_equal(attach_mkswap(dev, "again"), -EBUSY);
	assert_int_equal(attach_swapoff(dev), 0);
	assert_string_equal(output("blkid -p -o value -s LABEL %s", dev), "least");
	detach(dev, file);
	assert_int_equal(attach_mkswap("/dev/loop-none", "none"), -ENOENT);
}

static void test_swapon_looks_as_expected(void **state)
{
	char file[PATH_MAX], dev[ATTACH_PATH_MAX], want[256];

	make_device("disk", DISK_SIZE, file, dev);
	assert_int_equal(attach_swapon(dev, 7, false), -EINVAL); /* no header yet */
	assert_int_equal(attach_mkswap(dev, "uzram"), 0);
	assert_int_equal(attach_swapoff(dev), 0);
	assert_int_equal(attach_swap_used(dev), -ENOENT);

	assert_int_equal(attach_swapon(dev, 7, false), 0);
	snprintf(want, sizeof(want), "%s partition %d 7 uzram", dev, DISK_SIZE - 4096);
	assert_string_equal(output("swapon --show=NAME,TYPE,SIZE,PRIO,LABEL --raw --bytes "
				   "--noheadings | grep '^%s '",
				   dev),
			    want);
	assert_true(attach_swap_used(dev) >= 0);
	assert_int_equal(attach_swapon(dev, 7, false), -EBUSY);
	assert_int_equal(attach_unloop(dev, file), -EBUSY);
	assert_true(is_attached(dev, file));
	assert_int_equal(attach_swapoff(dev), 0);
	assert_int_equal(attach_swap_used(dev), -ENOENT);

	assert_int_equal(attach_swapon(dev, -1, false), 0);
	assert_true(atoi(output("grep '^%s ' /proc/swaps | awk '{print $5}'", dev)) < 0);
	assert_int_equal(attach_swapoff(dev), 0);
	detach(dev, file);
}

/* Pages of a pattern, in swap. Waits until dev has written them: a page freed before that would
 * stay in the swap cache, and its slot in use. */
static uint32_t *swapped_out(size_t size, const char *dev)
{
	uint32_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned writes = 1;

	assert_ptr_not_equal(p, MAP_FAILED);
	for (size_t i = 0; i < size / sizeof(*p); i++)
		p[i] = (uint32_t)i;
	assert_int_equal(madvise(p, size, MADV_PAGEOUT), 0);
	while (writes)
		sscanf(output("cat /sys/block/%s/inflight", dev + strlen("/dev/")), "%*u %u",
		       &writes);
	return p;
}

/* Does another program have a swap area that takes its share of our pages? No priority is higher
 * than ours. */
static bool has_peer(const char *dev)
{
	return *output("awk '$1 != \"%s\" && $5 == 32767' /proc/swaps", dev);
}

static int64_t shown_by_swapon(const char *dev)
{
	return atoll(output(
		"swapon --show=NAME,USED --raw --bytes --noheadings | sed -n 's|^%s ||p'", dev));
}

/* Is what we say of dev between two of swapon's answers? Other programs may swap at the same time.
 */
static bool used_as_swapon_says(const char *dev)
{
	for (int i = 0; i < 10; i++) {
		int64_t before = shown_by_swapon(dev);
		int64_t used = attach_swap_used(dev);
		int64_t after = shown_by_swapon(dev);

		if (used == before || used == after || (used > before) == (used < after))
			return true;
	}
	return false;
}

static void test_used_and_swapoff_brings_back(void **state)
{
	const size_t size = 8 << 20;
	char file[PATH_MAX], dev[ATTACH_PATH_MAX], idle_file[PATH_MAX], idle[ATTACH_PATH_MAX];
	int64_t used;
	uint32_t *p;
	bool peer;

	make_device("idle", DISK_SIZE, idle_file, idle);
	make_device("disk", DISK_SIZE, file, dev);
	assert_int_equal(attach_mkswap(idle, "idle"), 0);
	assert_int_equal(attach_mkswap(dev, "uzram"), 0);
	assert_int_equal(attach_swapon(idle, 0, false), 0);
	assert_int_equal(attach_swap_used(dev), -ENOENT);
	assert_int_equal(attach_swapon(dev, 32767, false), 0);
	p = swapped_out(size, dev);
	assert_true(used_as_swapon_says(dev));
	used = attach_swap_used(dev);
	peer = has_peer(dev);
	assert_true(peer || used > (int64_t)size / 2);
	assert_true(peer || attach_swap_used(idle) < used);

	assert_int_equal(attach_swapoff(idle), 0);
	assert_int_equal(attach_swapoff(dev), 0);
	for (size_t i = 0; i < size / sizeof(*p); i++)
		assert_int_equal(p[i], (uint32_t)i);
	munmap(p, size);
	detach(dev, file);
	detach(idle, idle_file);
	if (peer) {
		print_message("another swap area of priority 32767 takes its share\n");
		skip();
	}
}

static void test_discard_at_swapon_and_of_freed_pages(void **state)
{
	const size_t size = 8 << 20;
	char file[PATH_MAX], dev[ATTACH_PATH_MAX];
	bool discarded, alone;
	int64_t full;
	uint32_t *p;

	make_device("disk", DISK_SIZE, file, dev);
	assert_int_equal(attach_mkswap(dev, "uzram"), 0);
	assert_int_equal(attach_swapon(dev, 0, false), 0);
	assert_int_equal(attach_swapoff(dev), 0);
	assert_true(allocated(file) >= DISK_SIZE);
	assert_int_equal(attach_swapon(dev, 0, true), 0);
	assert_true(allocated(file) < 1 << 20);
	assert_int_equal(attach_swapoff(dev), 0);

	assert_int_equal(attach_swapon(dev, 32767, true), 0);
	p = swapped_out(size, dev);
	full = allocated(file);
	munmap(p, size);
	for (int i = 0; i < 500 && allocated(file) > full / 2; i++)
		usleep(10000);
	discarded = full > (int64_t)size / 2 && allocated(file) <= full / 2;
	alone = !has_peer(dev) && attach_swap_used(dev) < (int64_t)size / 8;
	assert_int_equal(attach_swapoff(dev), 0);
	detach(dev, file);
	if (!discarded && !alone) {
		print_message("other programs swap: pages of theirs lie between ours\n");
		skip();
	}
	assert_true(discarded);
}

/* --- the name --- */

static void expect_link(const char *path, const char *dev)
{
	char target[ATTACH_PATH_MAX] = "";

	assert_true(readlink(path, target, sizeof(target) - 1) > 0);
	assert_string_equal(target, dev);
}

static void test_link(void **state)
{
	char name[32], path[64], temp[64];

	snprintf(name, sizeof(name), "unit-test-%d", getpid());
	snprintf(path, sizeof(path), "/dev/uzram/%s", name);
	snprintf(temp, sizeof(temp), "/dev/uzram/.%s.new", name);
	assert_int_equal(attach_unlink(name), 0);
	assert_int_equal(attach_link(name, "/dev/loop0"), 0);
	expect_link(path, "/dev/loop0");
	assert_int_equal(symlink("left by the dead", temp), 0);
	assert_int_equal(attach_link(name, "/dev/loop1"), 0);
	expect_link(path, "/dev/loop1");
	assert_int_equal(access(temp, F_OK), -1);
	assert_int_equal(attach_unlink(name), 0);
	assert_int_equal(attach_unlink(name), 0);
	assert_int_equal(readlink(path, temp, sizeof(temp)), -1);
	/* other devices may have names there */
	assert_int_not_equal(rmdir("/dev/uzram"), 0);
	assert_true(errno == ENOENT || errno == ENOTEMPTY);
}

/* --- set-up and clearing away --- */

static int each_setup(void **state)
{
	alarm(TEST_SECONDS);
	return 0;
}

static int run(void)
{
#define TEST(function) cmocka_unit_test_setup(function, each_setup)
	const struct CMUnitTest tests[] = {
		TEST(test_loop_is_not_throttled),
		TEST(test_loop_looks_as_expected),
		TEST(test_no_direct_io_is_an_error),
		TEST(test_loop_refuses),
		TEST(test_claimed_device_is_no_error),
		TEST(test_racing_attaches_get_a_device_each),
		TEST(test_unloop_spares_what_is_not_ours),
		TEST(test_unloop_of_a_deleted_file),
		TEST(test_unloop_waits_for_other_openers),
		TEST(test_unloop_needs_no_living_server),
		TEST(test_mkswap_is_mkswaps),
		TEST(test_mkswap_wipes_old_signatures),
		TEST(test_mkswap_wipes_both_ends),
		TEST(test_mkswap_looks_at_nothing),
		TEST(test_mkswap_refuses),
		TEST(test_swapon_looks_as_expected),
		TEST(test_used_and_swapoff_brings_back),
		TEST(test_discard_at_swapon_and_of_freed_pages),
		TEST(test_link),
	};

	return cmocka_run_group_tests_name("attach", tests, NULL, NULL);
}

/* Twice, since one device may hold the file of another. None of the code under test. */
static void clear_away(void)
{
	static const char script[] = "for pass in 1 2; do"
				     "  losetup -nO NAME,BACK-FILE | while read -r dev file; do"
				     "    case $file in $0/*)"
				     "      swapoff $dev; umount $dev; losetup -d $dev;;"
				     "    esac;"
				     "  done;"
				     "done;"
				     "umount -l $0/fuse; rm -rf $0; rm -f /dev/uzram/unit-test-$1 "
				     "/dev/uzram/.unit-test-$1.new; rmdir /dev/uzram";
	char command[PATH_MAX + sizeof(script) + 64];

	snprintf(command, sizeof(command), "sh -c '%s' %s %d 2>/dev/null", script, scratch, runner);
	if (system(command))
		return; /* most of it fails after a good run: there is nothing to do */
}

static void stop_runner(int signal)
{
	kill(runner, SIGKILL);
}

int main(void)
{
	char dir[] = "/var/tmp/uzram-attach-XXXXXX";
	int status;

	if (geteuid() || access("/dev/loop-control", R_OK | W_OK)) {
		fprintf(stderr, "SKIP: needs root and /dev/loop-control\n");
		return 77;
	}
	if (!mkdtemp(dir) || !realpath(dir, scratch))
		return 1;
	fflush(stdout);
	runner = fork();
	if (!runner) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		exit(run());
	}
	signal(SIGTERM, stop_runner);
	signal(SIGINT, stop_runner);
	waitpid(runner, &status, 0);
	clear_away();
	if (WIFSIGNALED(status))
		fprintf(stderr, "ended by %s\n", strsignal(WTERMSIG(status)));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
