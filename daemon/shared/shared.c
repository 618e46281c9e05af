/* SPDX-License-Identifier: MIT */
#include "shared/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* NULL, and errno, on failure. */
static void *map_shared(int fd, size_t size, int protection)
{
	void *p = mmap(NULL, size, protection, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* The name shows in /proc/PID/maps. */
static int new_file(const char *name, size_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), err;

	if (fd < 0)
		return -errno;
	/* Nobody else who has it can take away what is mapped. */
	if (ftruncate(fd, (off_t)size) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static int reopen_readonly(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void describe(struct state *state, const struct config *config)
{
	*state = (struct state){
		.version = STATE_VERSION,
		.size = sizeof(*state),
		.disksize = config->size,
		.loop = config->loop,
		.swap = config->swap,
		.workers = config->workers,
		.block_size = config->block_size,
		.ublk = -1,
		.since = time(NULL),
		.arena_fd = -1,
		.lock_fd = -1,
		.arena_root_fd = -1,
		.supervisor = getpid(),
	};
	for (unsigned i = 0; i < SERVERS_MAX; i++)
		state->servers[i].socket = -1;
	memcpy(state->name, config->name, sizeof(state->name));
}

int shared_new(const struct config *config, struct state **ret_state, struct status **ret_status)
{
	int state_fd = new_file("uzram-state", sizeof(**ret_state));
	int ro_fd = state_fd < 0 ? state_fd : reopen_readonly(state_fd);
	int status_fd = ro_fd < 0 ? ro_fd : new_file("uzram-status", sizeof(**ret_status));
	struct state *state;
	int err;

	if (status_fd < 0)
		return status_fd; /* and the process ends */
	state = map_shared(state_fd, sizeof(*state), PROT_READ | PROT_WRITE);
	if (!state)
		return -errno;
	describe(state, config);
	state->state_fd = state_fd;
	state->state_ro_fd = ro_fd;
	state->status_fd = status_fd;
	err = shared_map_status(state, ret_status);
	if (!err)
		*ret_state = state;
	return err;
}

int shared_adopt(int state_fd, struct state **ret)
{
	struct state head, *state;

	if (pread(state_fd, &head, sizeof(head), 0) != sizeof(head) ||
	    head.version != STATE_VERSION || head.size != sizeof(head))
		return -EPROTO;
	state = map_shared(state_fd, sizeof(*state), PROT_READ | PROT_WRITE);
	if (!state)
		return -errno;
	*ret = state;
	return 0;
}

int shared_map_status(const struct state *state, struct status **ret)
{
	struct status *status =
		map_shared(state->status_fd, sizeof(*status), PROT_READ | PROT_WRITE);

	if (!status)
		return -errno;
	*ret = status;
	return 0;
}

int shared_map_readonly(int state_ro_fd, const struct state **ret)
{
	const struct state *state = map_shared(state_ro_fd, sizeof(*state), PROT_READ);

	if (!state)
		return -errno;
	*ret = state;
	return 0;
}

int shared_each_fd(struct state *state, int (*fn)(void *arg, const char *name, int *fd), void *arg)
{
	const struct {
		const char *name;
		int *fd;
	} fds[] = {
		{"state", &state->state_fd},   {"state-ro", &state->state_ro_fd},
		{"status", &state->status_fd}, {"arena", &state->arena_fd},
		{"lock", &state->lock_fd},     {"arena-root", &state->arena_root_fd},
	};
	int ret = 0;

	for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]) && !ret; i++)
		ret = fn(arg, fds[i].name, fds[i].fd);
	for (unsigned i = 0; i < state->mount.nfds && !ret; i++)
		ret = fn(arg, "fuse", &state->mount.fds[i]);
	for (unsigned i = 0; i < SERVERS_MAX && !ret; i++)
		ret = fn(arg, "socket", &state->servers[i].socket);
	return ret;
}

static struct flock lock_of(enum shared_lock which, short type)
{
	return (struct flock){.l_type = type, .l_start = which, .l_len = 1};
}

int shared_lock(int status_fd, enum shared_lock which, bool wait)
{
	struct flock lock = lock_of(which, F_WRLCK);

	return fcntl(status_fd, wait ? F_SETLKW : F_SETLK, &lock) < 0 ? -errno : 0;
}

void shared_unlock(int status_fd, enum shared_lock which)
{
	struct flock lock = lock_of(which, F_UNLCK);

	fcntl(status_fd, F_SETLK, &lock);
}

pid_t shared_lock_owner(int status_fd, enum shared_lock which)
{
	struct flock lock = lock_of(which, F_WRLCK);

	if (fcntl(status_fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid > 0 ? lock.l_pid : 0; /* of another PID namespace, or of no process */
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
