/* SPDX-License-Identifier: MIT */
#include "supervisor/ublk/device.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "shared/explain.h"
#include "shared/log.h"
#include "shared/process.h"
#include "shared/ublk_uapi.h"
#include "supervisor/host/attach.h"

#define MSEC UINT64_C(1000000)
#define SEC  (1000 * MSEC)

/* Between two attempts to have the kernel wait for another server: a dead one's memory is being
 * taken down meanwhile. */
#define RETRY_MS 1

/* When a server has ended the kernel (6.12: ublk_quiesce_work_fn()) says that the device is
 * quiescent, and only then cancels the server's commands, holding no lock. A recovery that begins
 * meanwhile has it cancel those of the next server, which then gets no requests; or has it look at
 * some that are gone, and the machine is. Nothing says when that is over. It is a loop over the
 * tags. */
#define SETTLE_NS (50 * UINT64_C(1000000))

#define COMPLAIN_NS (5 * SEC)

#define ADOPT_TRIES 10 /* a second apart, where there is no memory for the ring */

/* A driver that works makes a device in milliseconds, and answers each command in 10 s, or else
 * ublk_control_add() has failed. */
#define MAKE_MS 15000

static int ublk_failed(const char *what, int err)
{
	log_error("%s: %s", what, strerror(-err));
	return err;
}

/* What tells our device from others, and the devices of two names from each other. */
static uint64_t mark_of(const char *name)
{
	char text[64];

	return uz_hash(text, (size_t)snprintf(text, sizeof(text), "uzram %s", name));
}

/* --- make --- */

bool ublk_device_possible(void)
{
	struct ublk_control control;
	struct rlimit locked;

	/* A server that has given up its privileges maps the descriptors. */
	if (getrlimit(RLIMIT_MEMLOCK, &locked) < 0 || locked.rlim_cur != RLIM_INFINITY)
		return false;
	if (ublk_control_open(&control))
		return false;
	ublk_control_close(&control);
	return true;
}

/* Returns the new device's id, or -errno. */
static int add_ublk(struct ublk_control *c, const struct state *state)
{
#ifdef UZ_TEST_HOOKS
	if (getenv("UZ_UBLK_SILENT")) /* a driver that never answers */
		pause();
#endif
	return ublk_control_add(c, state->disksize, state->block_size, mark_of(state->name));
}

/* What a child does that is to make a device: it writes the id, or -errno, to out. */
__attribute__((noreturn)) static void be_maker(const struct state *state, int out)
{
	int keep[] = {STDERR_FILENO, out};
	struct ublk_control control;
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	log_forget();
	/* It may be there for ever, and must not hold what is the supervisor's: the lock, say. */
	ret = process_keep_fds(keep, 2);
	if (!ret)
		ret = ublk_control_open(&control);
	if (!ret)
		ret = add_ublk(&control, state);
	_exit(write(out, &ret, sizeof(ret)) != sizeof(ret));
}

/* Wait for what the child makes; -ETIMEDOUT if it takes too long, and then it is left behind. */
static int await_maker(pid_t child, int in)
{
	struct pollfd fd = {in, POLLIN, 0};
	int ret = -ECHILD;

	if (poll(&fd, 1, MAKE_MS) == 0) {
		kill(child, SIGKILL);
		return -ETIMEDOUT;
	}
	if (read(in, &ret, sizeof(ret)) != sizeof(ret))
		ret = -ECHILD;
	waitpid(child, NULL, 0);
	return ret;
}

/* In a child, since there are kernels that never answer, and a process that waits for such an
 * answer can't end. Returns the new device's id, or -errno. */
static int make_in_child(const struct state *state)
{
	int ends[2], ret;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0)
		be_maker(state, ends[1]);
	ret = child < 0 ? -errno : 0;
	close(ends[1]);
	if (!ret)
		ret = await_maker(child, ends[0]);
	close(ends[0]);
	return ret;
}

static int open_control(struct ublk_device *u, struct state *state)
{
	char why[EXPLAIN_MAX];
	int err;

	*u = (struct ublk_device){.state = state};
	err = ublk_control_open(&u->control);
	if (err)
		log_error("can't use ublk: %s",
			  explain_device("/dev/ublk-control", "ublk_drv", err, why));
	return err;
}

/* err: make_in_child()'s. */
static int no_device(int err)
{
	if (err != -ETIMEDOUT)
		return ublk_failed("can't make a ublk device", err);
	log_error("the kernel's ublk driver has not made a device in %d s, and never may (that of "
		  "some kernels 6.17 and 6.18 is broken): boot another kernel, or have "
		  "frontend = \"fuse\"",
		  MAKE_MS / 1000);
	return err;
}

int ublk_device_new(struct ublk_device *u, struct state *state)
{
	int err = open_control(u, state), id;

	if (err)
		return err;
	id = make_in_child(state);
	if (id < 0) {
		ublk_control_close(&u->control);
		return no_device(id);
	}
	state->ublk = id;
	state->ublk_encoded = u->control.encoded;
	return 0;
}

int ublk_device_adopt(struct ublk_device *u, struct state *state, bool served)
{
	const struct timespec pause = {.tv_sec = 1};
	int err = open_control(u, state);

	/* The device is served meanwhile. But the manager's watchdog waits, and starts another
	 * supervisor if this one gives up. */
	for (unsigned i = 1; i < ADOPT_TRIES && (err == -ENOMEM || err == -EAGAIN); i++) {
		nanosleep(&pause, NULL);
		err = open_control(u, state);
	}
	u->phase = served ? UBLK_GIVEN : UBLK_LOST;
	return err;
}

void ublk_device_delete(struct ublk_device *u)
{
	int err;

	/* A command that waits in the kernel keeps the device; it ends with its ring. */
	if (u->phase == UBLK_RECOVERING || u->phase == UBLK_HANDED) {
		ublk_control_close(&u->control);
		err = ublk_control_open(&u->control);
		if (err) {
			ublk_failed("can't remove the ublk device", err);
			return;
		}
	}
	err = ublk_control_delete(&u->control, u->state->ublk);
	if (err)
		ublk_failed("can't remove the ublk device", err);
	u->state->ublk = -1;
	ublk_control_close(&u->control);
}

/* --- give --- */

void ublk_device_lost(struct ublk_device *u)
{
	if (u->phase == UBLK_GIVEN) {
		u->phase = UBLK_LOST;
		u->settled_ns = 0;
	} else if (u->phase == UBLK_HANDED) {
		u->phase = UBLK_RECOVERING;
		u->settled_ns = now_ns() + SETTLE_NS;
	}
}

/* Whether the kernel is done with the commands of a server that has ended. */
static bool is_settled(struct ublk_device *u)
{
	if (u->phase == UBLK_LOST && !u->settled_ns &&
	    ublk_control_state(&u->control, u->state->ublk) != UBLK_S_DEV_LIVE)
		u->settled_ns = now_ns() + SETTLE_NS;
	return u->settled_ns && now_ns() >= u->settled_ns;
}

static int open_char_device(int id)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/ublkc%d", id);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int send_fd(int socket, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};

	*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
		.cmsg_len = CMSG_LEN(sizeof(int)),
	};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
	return sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* A server that died before there was a block device can't be replaced; but nobody has used the
 * device then, and it can be. */
static int renew_device(struct ublk_device *u)
{
	int ret = ublk_control_delete(&u->control, u->state->ublk);

	if (!ret)
		ret = ublk_control_add(&u->control, u->state->disksize, u->state->block_size,
				       mark_of(u->state->name));
	if (ret < 0)
		return ret;
	u->state->ublk = ret;
	u->phase = UBLK_NEW;
	return 0;
}

/* Have the kernel wait for another server. */
static int start_recovery(struct ublk_device *u)
{
	int err = ublk_control_start_recovery(&u->control, u->state->ublk);

	/* The child that stopped the block device may have been killed before it wrote that down.
	 */
	if (err == -EBUSY && ublk_control_state(&u->control, u->state->ublk) == UBLK_S_DEV_DEAD)
		return renew_device(u);
	if (err && err != -EINVAL) /* which says that it waits already */
		return err;
	err = ublk_control_end_recovery(&u->control, u->state->ublk, u->state->supervisor);
	if (!err)
		u->phase = UBLK_RECOVERING;
	return err;
}

static int hand_over(struct ublk_device *u, int socket)
{
	int fd = open_char_device(u->state->ublk), err;

	if (fd < 0)
		return fd;
	err = send_fd(socket, fd);
	close(fd);
	/* A new device that was opened once may be in use: it counts as given in any case. */
	if (u->phase == UBLK_RECOVERING)
		u->phase = err ? UBLK_RECOVERING : UBLK_HANDED;
	else
		u->phase = err ? UBLK_LOST : UBLK_GIVEN;
	return err;
}

/* The next step towards a server that has the device. */
static int give(struct ublk_device *u, int socket)
{
	int err = 0;

	if ((u->phase == UBLK_LOST || u->phase == UBLK_RECOVERING) && u->state->block_device[0] &&
	    !is_settled(u))
		return -EBUSY;
	if (u->phase == UBLK_LOST)
		err = u->state->block_device[0] ? start_recovery(u) : renew_device(u);
	return err ? err : hand_over(u, socket);
}

static void reap_end(struct ublk_device *u)
{
	int err;

	if (!ublk_control_done(&u->control, &err))
		return;
	u->phase = u->phase == UBLK_HANDED ? UBLK_GIVEN : UBLK_LOST;
	if (err)
		ublk_failed("the kernel doesn't go on with the next server", err);
}

static void complain_of_delay(struct ublk_device *u, int err)
{
	uint64_t now = now_ns();

	if (!u->complain_ns)
		u->complain_ns = now + COMPLAIN_NS;
	if (now < u->complain_ns)
		return;
	u->complain_ns = now + COMPLAIN_NS;
	log_error("/dev/ublkc%d can't be given to the next server yet: %s; trying again",
		  u->state->ublk, strerror(-err));
}

void ublk_device_tick(struct ublk_device *u, int socket)
{
	int err;

	if (u->phase == UBLK_RECOVERING || u->phase == UBLK_HANDED)
		reap_end(u);
	if (u->phase == UBLK_GIVEN || u->phase == UBLK_HANDED || socket < 0)
		return;
	err = give(u, socket);
	if (err)
		complain_of_delay(u, err);
	else
		u->complain_ns = 0;
}

int ublk_device_timeout(const struct ublk_device *u, int max)
{
	/* Nothing tells when the kernel is done with a server, or the next one has its turn. */
	return u->phase == UBLK_LOST || u->phase == UBLK_RECOVERING ? RETRY_MS : max;
}

/* --- steps for children --- */

/* The kernel notices a server's death by the commands that wait for requests. If the server has all
 * requests in its hands that takes 30 seconds, until they time out: so the last tag is never used.
 * A scheduler would have tags of its own, and memory has no use for one. */
static void keep_a_tag(const char *dev)
{
	char number[16];
	int err = attach_set_queue(dev, "scheduler", "none");

	snprintf(number, sizeof(number), "%d", UBLK_TAGS - 1);
	if (!err)
		err = attach_set_queue(dev, "nr_requests", number);
	/* Nothing is won by making writers wait. A kernel without throttling has no such attribute.
	 */
	attach_set_queue(dev, "wbt_lat_usec", "0");
	if (err)
		log_warning("can't limit the requests to %s: %s; if the server dies while it has "
			    "very many, it may take half a minute to replace it",
			    dev, strerror(-err));
}

int ublk_device_start(struct state *state)
{
	struct ublk_control control;
	int err;

	/* Never without a server: the kernel would use what the last one has fetched. */
	if (!shared_lock_owner(state->status_fd, LOCK_SERVING))
		return -ESRCH;
	err = ublk_control_open(&control);
	if (err)
		return err;
	err = ublk_control_start(&control, state->ublk, state->supervisor);
	ublk_control_close(&control);
	if (err && err != -EEXIST) /* an earlier supervisor has, and died */
		return err;
	snprintf(state->block_device, sizeof(state->block_device), "/dev/ublkb%d", state->ublk);
	keep_a_tag(state->block_device);
	return 0;
}

int ublk_device_stop(struct state *state)
{
	/* O_EXCL, since the kernel would pull the device from under its users. No other process can
	 * claim it while this one has it open. */
	int fd = open(state->block_device, O_RDONLY | O_EXCL | O_CLOEXEC), err;
	struct ublk_control control;

	if (fd < 0 && errno == ENOENT)
		return 0; /* an earlier child stopped it, and was killed before it wrote that down
			   */
	if (fd < 0)
		return -errno;
	err = ublk_control_open(&control);
	if (!err) {
		err = ublk_control_stop(&control, state->ublk);
		ublk_control_close(&control);
	}
#ifdef UZ_TEST_HOOKS
	const char *once = getenv("UZ_UBLK_STOP_DIES"); /* a file */

	if (!err && once && unlink(once) == 0)
		raise(SIGKILL);
#endif
	close(fd);
	return err;
}

/* --- leftovers --- */

int ublk_device_find(const char *name, char ret_dev[BLOCK_DEVICE_PATH_MAX])
{
	struct ublk_control control;
	int id;

	if (ublk_control_open(&control))
		return -ENOENT;
	id = ublk_control_find(&control, mark_of(name));
	ublk_control_close(&control);
	if (id < 0)
		return id;
	snprintf(ret_dev, BLOCK_DEVICE_PATH_MAX, "/dev/ublkb%d", id);
	return 0;
}

int ublk_device_clear(const char *name)
{
	struct ublk_control control;
	int id, err = ublk_control_open(&control);

	if (err)
		return err;
	id = ublk_control_find(&control, mark_of(name));
	err = id < 0 ? id : ublk_control_delete(&control, id);
	ublk_control_close(&control);
	return err;
}
