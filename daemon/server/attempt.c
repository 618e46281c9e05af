/* SPDX-License-Identifier: MIT */
#include "server/attempt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <unistd.h>

#include "arena/internal.h"
#include "base/ring.h"
#include "server/control/attributes.h"
#include "store/internal.h"

#define WINDOW	   ((size_t)4 << 20)
#define MEMORY_MAX ((size_t)1 << 28) /* as much as this is as much as it likes */

/* --- by system calls --- */

static int try_open(const struct control *c)
{
	return open("/etc/passwd", O_RDONLY);
}

static int try_socket(const struct control *c)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static int try_exec(const struct control *c)
{
	return execl("/bin/true", "true", NULL);
}

static int try_fork(const struct control *c)
{
	return (int)fork();
}

static int try_root(const struct control *c)
{
	return setresuid(0, 0, 0);
}

static int try_kill(const struct control *c)
{
	return kill(c->state->supervisor, SIGKILL);
}

static int try_trace(const struct control *c)
{
	return (int)ptrace(PTRACE_SEIZE, c->state->supervisor, NULL, NULL);
}

/* --- by memory --- */

static int try_state(const struct control *c)
{
	return mprotect((void *)(uintptr_t)c->state, sizeof(*c->state), PROT_READ | PROT_WRITE);
}

/* An operation of its ring's that the jail would not let it do: to write to a file. */
static int try_ring(const struct control *c)
{
	static const uint64_t mark = 0x600dbad;
	struct io_uring ring = uz_ring_enabled;
	struct io_uring_sqe *sqe;

	ring.sq.sqe_head = ring.sq.sqe_tail = *ring.sq.ktail;
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_write(sqe, c->state->status_fd, &mark, sizeof(mark),
			    offsetof(struct status, outage_max_ns));
	io_uring_submit(&ring);
	for (int i = 0; i < 100 && atomic_load(&c->status->outage_max_ns) != mark; i++)
		usleep(10000);
	errno = EACCES;
	return atomic_load(&c->status->outage_max_ns) == mark ? 0 : -1;
}

/* For the servers to come. */
static int try_superblock(const struct control *c)
{
	memset(c->store->config.arena->map, 0xff, sizeof(struct uz_superblock));
	return 0;
}

static int try_arena(const struct control *c)
{
	struct uz_arena *arena = c->store->config.arena;
	char *data = uz_arena_ptr(arena, 0);

	for (uint64_t off = 0; off < uz_arena_data_size(arena); off += WINDOW) {
		if (madvise(data + off, WINDOW, MADV_POPULATE_WRITE) < 0)
			return -1;
	}
	return 0;
}

static int try_memory_by(int type)
{
	char *had[MEMORY_MAX / WINDOW];
	size_t n = 0;
	int err;

	while (n < MEMORY_MAX / WINDOW) {
		had[n] = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, type | MAP_ANONYMOUS, -1, 0);
		if (had[n] == MAP_FAILED)
			break;
		memset(had[n++], 1, WINDOW);
	}
	err = errno;
	for (size_t i = 0; i < n; i++)
		munmap(had[i], WINDOW);
	errno = err;
	return n < MEMORY_MAX / WINDOW ? -1 : 0;
}

static int try_memory(const struct control *c)
{
	return try_memory_by(MAP_PRIVATE);
}

static int try_shared_memory(const struct control *c)
{
	return try_memory_by(MAP_SHARED);
}

/* --- by what others hear --- */

/* Answers to what the kernel has not asked. */
static int try_replies(const struct control *c)
{
	struct fuse_out_header out = {.len = sizeof(out)};

	for (uint64_t unique = 1; unique < 1000; unique++) {
		out.unique = unique << 40;
		if (write(c->state->mount.fds[0], &out, sizeof(out)) >= 0)
			return 0;
	}
	return -1;
}

/* What the supervisor does not know, in packets of any size; and what it has heard before. */
static int try_requests(const struct control *c)
{
	char junk[512];

	memset(junk, 0xff, sizeof(junk));
	for (int i = 0; i < 100; i++) {
		enum request known = i % 2 ? REQUEST_STANDS_BY : REQUEST_READY;
		int unknown = i % 2 ? -i : REQUEST_WAKE + i + 1;

		send(c->socket, &unknown, sizeof(unknown), MSG_NOSIGNAL);
		send(c->socket, &known, sizeof(known), MSG_NOSIGNAL);
		send(c->socket, junk, 5 * (size_t)i, MSG_NOSIGNAL);
	}
	errno = EBADMSG; /* it is for the test to see what has come of it */
	return -1;
}

/* In every server until three have died of it. */
static int try_hang(const struct control *c)
{
	while (c->state->restarts < 3)
		sleep(1);
	return 0;
}

int attempt(const struct control *c, const char *what)
{
	static const struct {
		const char *word;
		int (*try)(const struct control *c);
	} attempts[] = {
		{"open", try_open},
		{"socket", try_socket},
		{"exec", try_exec},
		{"fork", try_fork},
		{"root", try_root},
		{"kill", try_kill},
		{"trace", try_trace},
		{"state", try_state},
		{"ring", try_ring},
		{"superblock", try_superblock},
		{"arena", try_arena},
		{"memory", try_memory},
		{"shared-memory", try_shared_memory},
		{"replies", try_replies},
		{"requests", try_requests},
		{"hang", try_hang},
	};

	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		if (strcmp(what, attempts[i].word) == 0)
			return attempts[i].try(c);
	}
	errno = EINVAL;
	return -1;
}
