/* SPDX-License-Identifier: MIT */
#include "supervisor/ublk/device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"
#include "shared/explain.h"
#include "shared/log.h"
#include "shared/ublk_uapi.h"
#include "supervisor/host/attach.h"

#define MSEC UINT64_C(1000000)
#define SEC  (1000 * MSEC)

/* Between two attempts to have the kernel wait for another server: a dead one's memory is being
 * taken down meanwhile. */
#define RETRY_MS 1

#define COMPLAIN_NS (5 * SEC)

#define ADOPT_TRIES 10 /* a second apart, where there is no memory for the ring */

static int fail(const char *what, int err)
{
	log_error("%s: %s", what, strerror(-err));
	return err;
}

/* What tells our device from everybody else's, and one name's from another's. */
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

static int add(struct ublk_device *u)
{
	int id = ublk_control_add(&u->control, u->state->disksize, u->state->block_size,
				  mark_of(u->state->name));

	if (id < 0)
		return id;
	u->state->ublk = id;
	u->used = false;
	return 0;
}

static int open_control(struct ublk_device *u, struct state *state)
{
	char why[EXPLAIN_MAX];
	int err;

	*u = (struct ublk_device){.state = state};
	err = ublk_control_open(&u->control);
	if (err) {
		log_error("can't use ublk: %s",
			  explain_device("/dev/ublk-control", "ublk_drv", err, why));
		return err;
	}
	state->ublk_encoded = u->control.encoded;
	return 0;
}

int ublk_device_new(struct ublk_device *u, struct state *state)
{
	int err = open_control(u, state);

	if (err)
		return err;
	err = add(u);
	if (err) {
		ublk_control_close(&u->control);
		return fail("can't make a ublk device", err);
	}
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
	u->used = true; /* for all we know */
	u->given = served;
	return err;
}

void ublk_device_delete(struct ublk_device *u)
{
	int err;

	/* A command that waits in the kernel keeps the device; it ends with its ring. */
	if (u->ending) {
		ublk_control_close(&u->control);
		err = ublk_control_open(&u->control);
		if (err) {
			fail("can't remove the ublk device", err);
			return;
		}
	}
	err = ublk_control_delete(&u->control, u->state->ublk);
	if (err)
		fail("can't remove the ublk device", err);
	u->state->ublk = -1;
	ublk_control_close(&u->control);
}

/* --- give --- */

void ublk_device_lost(struct ublk_device *u)
{
	u->given = false;
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

/* Have the kernel wait for another server. */
static int recover(struct ublk_device *u)
{
	int err;

	if (u->ending)
		return 0; /* it waits: no server has fetched since */
	err = ublk_control_start_recovery(&u->control, u->state->ublk);
	if (err && err != -EINVAL)
		return err;
	ublk_control_end_recovery(&u->control, u->state->ublk, u->state->supervisor);
	u->ending = true;
	return 0;
}

/* A server that died before there was a block device can't be replaced; but then nobody has used
 * the device, and it can. */
static int renew(struct ublk_device *u)
{
	int err;

	if (!u->used)
		return 0;
	err = ublk_control_delete(&u->control, u->state->ublk);
	return err ? err : add(u);
}

static int give(struct ublk_device *u, int socket)
{
	int err = u->state->block_device[0] ? recover(u) : renew(u), fd;

	if (err)
		return err;
	fd = open_char_device(u->state->ublk);
	if (fd < 0)
		return fd;
	u->used = true;
	err = send_fd(socket, fd);
	close(fd);
	return err;
}

static void reap_end(struct ublk_device *u)
{
	int err = ublk_control_result(&u->control);

	if (err == -EAGAIN)
		return;
	u->ending = false;
	if (err)
		fail("the kernel doesn't go on with the next server", err);
}

static void complain(struct ublk_device *u, int err)
{
	uint64_t now = now_ns();

	if (!u->waiting)
		u->complain_ns = now + COMPLAIN_NS;
	u->waiting = true;
	if (now < u->complain_ns)
		return;
	u->complain_ns = now + COMPLAIN_NS;
	log_error("/dev/ublkc%d can't be given to the next server yet: %s; trying again",
		  u->state->ublk, strerror(-err));
}

void ublk_device_tick(struct ublk_device *u, int socket)
{
	int err;

	if (u->ending)
		reap_end(u);
	if (u->given || socket < 0)
		return;
	err = give(u, socket);
	u->given = !err;
	if (err)
		complain(u, err);
	else
		u->waiting = false;
}

int ublk_device_timeout(const struct ublk_device *u, int max)
{
	return u->waiting ? RETRY_MS : max;
}

/* --- steps for children --- */

/* The kernel notices a server's death by the commands that wait for requests. Where all are in the
 * server's hands it takes 30 seconds, until they time out; so the last tag is never used. Without a
 * scheduler, which has tags of its own, and which memory has no use for. */
static void keep_a_tag(const char *dev)
{
	char number[16];
	int err = attach_set_queue(dev, "scheduler", "none");

	snprintf(number, sizeof(number), "%d", UBLK_TAGS - 1);
	if (!err)
		err = attach_set_queue(dev, "nr_requests", number);
	/* Nor is there anything to be won by making writers wait, if the kernel has that at all. */
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

	/* Never without a server: the kernel would use what the last one has left. */
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
	/* O_EXCL: the kernel would pull it from under its users. Nobody can claim it while we have
	 * it. */
	int fd = open(state->block_device, O_RDONLY | O_EXCL | O_CLOEXEC), err;
	struct ublk_control control;

	if (fd < 0)
		return -errno;
	err = ublk_control_open(&control);
	if (!err) {
		err = ublk_control_stop(&control, state->ublk);
		ublk_control_close(&control);
	}
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
