/* SPDX-License-Identifier: MIT */
#include "supervisor/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "server/server.h"
#include "shared/log.h"
#include "supervisor/jail_make.h"
#include "supervisor/latency_device.h"

static int check_layout(const struct state *state)
{
	uint64_t disksize;

	if (uz_arena_check(state->arena_fd, &disksize) == 0 && disksize == state->disksize)
		return 0;
	log_error("this version of uzramd has another layout of the stored pages than the one that "
		  "runs: stop and start the device to change versions");
	return -EPROTO;
}

int handover_check(struct config *config, const struct state *state, bool crashed)
{
	const enum frontend frontend = state->ublk >= 0 ? FRONTEND_UBLK : FRONTEND_FUSE;
	const struct {
		const char *key;
		bool differs;
	} keys[] = {
		{"size", !config->size_implied && config->size != state->disksize},
		{"workers", !config->workers_implied && config->workers != state->workers},
		{"frontend", config->frontend != FRONTEND_AUTO && config->frontend != frontend},
		{"block_size", config->block_size != state->block_size},
		{"loop.enabled", config->loop != state->loop},
		{"swap.enabled", config->swap != state->swap},
	};

	if (check_layout(state))
		return -EPROTO;
	if (strcmp(config->name, state->name) != 0) {
		log_error("name can't change while the device is there");
		return -EPROTO;
	}
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (!keys[i].differs)
			continue;
		log_error("%s can't change while the device is there: stop and start it for that",
			  keys[i].key);
		if (!crashed)
			return -EPROTO;
	}
	config->size = state->disksize;
	config->workers = state->workers;
	config->frontend = frontend;
	config->block_size = state->block_size;
	config->loop = state->loop;
	config->swap = state->swap;
	return 0;
}

/* --- by exec --- */

/* arg: whether sockets to servers pass, too. */
static int let_pass(void *arg, const char *name, int *fd)
{
	const bool *sockets = arg;

	if (!*sockets && strcmp(name, "socket") == 0)
		return 0;
	return *fd >= 0 && fcntl(*fd, F_SETFD, 0) < 0 ? -errno : 0;
}

static int keep_back(void *arg, const char *name, int *fd)
{
	return *fd >= 0 && fcntl(*fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

/* stand_by: the socket of what is to be a server, or NULL. */
static int exec_with_state(const struct launch *launch, struct state *state, const char *stand_by)
{
	char fd[16];
	bool sockets = !stand_by;
	int err = shared_each_fd(state, let_pass, &sockets);

	snprintf(fd, sizeof(fd), "%d", state->state_fd);
	if (!err) {
		execl(launch->binary, "uzramd", "--config", launch->config, "--resume", fd,
		      stand_by ? "--stand-by" : NULL, stand_by, NULL);
		err = -errno;
	}
	log_error("can't run %s: %s", launch->binary, strerror(-err));
	shared_each_fd(state, keep_back, NULL);
	return err;
}

int handover_exec(const struct launch *launch, struct state *state)
{
	return exec_with_state(launch, state, NULL);
}

int handover_exec_stand_by(const struct launch *launch, struct state *state, int socket)
{
	char fd[16];

	snprintf(fd, sizeof(fd), "%d", socket);
	if (fcntl(socket, F_SETFD, 0) < 0)
		return -errno;
	return exec_with_state(launch, state, fd);
}

/* What else the supervisor's servers have from it by fork. */
int handover_stand_by(const struct config *config, struct state *state, int socket)
{
	struct jail jail = {.root = -1, .network = -1};
	struct server_config sc = {
		.config = config,
		.state = state,
		.jail = &jail,
		.socket = socket,
	};
	int err = shared_map_status(state, &sc.status);

	if (!err)
		err = jail_init(&jail);
	if (err) {
		log_error("can't stand by: %s", strerror(-err));
		return EXIT_FAILURE;
	}
	sc.latency = latency_open(config->latency_hold);
	return server_main(&sc);
}

int handover_from_exec(int state_fd, struct state **ret)
{
	int err = shared_adopt(state_fd, ret);

	return err ? err : shared_each_fd(*ret, keep_back, NULL);
}

/* --- by systemd --- */

struct listed {
	char **names; /* of descriptors from SD_LISTEN_FDS_START on */
	int count;
};

/* The next descriptor of that name, which is used up; -1: none. */
static int take_listed(struct listed *l, const char *name)
{
	for (int i = 0; i < l->count; i++) {
		if (strcmp(l->names[i], name) == 0) {
			l->names[i][0] = '\0';
			return SD_LISTEN_FDS_START + i;
		}
	}
	return -1;
}

/* What another supervisor can do without. */
static bool is_dispensable(const char *name)
{
	return strcmp(name, "socket") == 0 || strcmp(name, "arena-root") == 0;
}

static int renumber(void *arg, const char *name, int *fd)
{
	if (strcmp(name, "state") != 0) /* which has been taken first */
		*fd = take_listed(arg, name);
	return *fd < 0 && !is_dispensable(name) ? -EPROTO : 0;
}

static int adopt_listed(struct listed *l, struct state **ret)
{
	struct state *state;
	int fd = take_listed(l, "state"), err;

	if (fd < 0)
		return -ENOENT;
	err = shared_adopt(fd, &state);
	if (err)
		return err;
	state->state_fd = fd;
	err = shared_each_fd(state, renumber, l);
	if (!err)
		err = shared_each_fd(state, keep_back, NULL);
	if (!err)
		*ret = state;
	return err;
}

int handover_from_manager(struct state **ret)
{
	struct listed l = {0};
	int err;

	l.count = sd_listen_fds_with_names(1, &l.names);
	err = l.count > 0 ? adopt_listed(&l, ret) : -ENOENT;
	for (int i = 0; i < l.count; i++)
		free(l.names[i]);
	free(l.names);
	return err;
}
