/* SPDX-License-Identifier: MIT
 *
 * A library to preload: has calls fail as they do where there is no memory, or wait for it. The
 * file that $REFUSE names holds a byte for each of them, in the order below: how many of the next
 * calls are to fail; then one that is not 0 while whoever makes a store warm is to wait, and one
 * that counts those that do. All processes that map it share it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum call { FORK, PIDFD_OPEN, SOCKETPAIR, MMAP, PTHREAD_CREATE, IO_URING, CALLS };
enum { WARM_WAITS = CALLS, WARM_WAITING, BYTES };

static _Atomic uint8_t *left;

__attribute__((constructor)) static void map_file(void)
{
	const char *path = getenv("REFUSE");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p;

	if (fd < 0)
		return;
	p = (void *)syscall(SYS_mmap, NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		left = p;
}

static int is_refused(enum call call)
{
	uint8_t n = left ? atomic_load(&left[call]) : 0;

	while (n && !atomic_compare_exchange_weak(&left[call], &n, (uint8_t)(n - 1)))
		;
	if (n)
		errno = ENOMEM;
	return n != 0;
}

/* The one that is called where this library is not there. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

pid_t fork(void)
{
	return is_refused(FORK) ? -1 : NEXT(fork)();
}

int pidfd_open(pid_t pid, unsigned flags)
{
	return is_refused(PIDFD_OPEN) ? -1 : NEXT(pidfd_open)(pid, flags);
}

int socketpair(int domain, int type, int protocol, int fds[2])
{
	return is_refused(SOCKETPAIR) ? -1 : NEXT(socketpair)(domain, type, protocol, fds);
}

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	return is_refused(MMAP) ? MAP_FAILED : NEXT(mmap)(at, len, prot, flags, fd, off);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *), void *arg)
{
	return is_refused(PTHREAD_CREATE) ? EAGAIN : NEXT(pthread_create)(thread, attr, main, arg);
}

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	return is_refused(IO_URING) ? -ENOMEM : NEXT(io_uring_queue_init)(entries, ring, flags);
}

/* A server that stands by is the only one to leave that signal unblocked. */
static bool stands_by(void)
{
	sigset_t blocked;

	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	return !sigismember(&blocked, SIGALRM);
}

int madvise(void *at, size_t len, int advice)
{
	if (left && advice == MADV_POPULATE_READ && atomic_load(&left[WARM_WAITS]) && stands_by()) {
		atomic_fetch_add(&left[WARM_WAITING], 1);
		while (atomic_load(&left[WARM_WAITS]))
			usleep(10000);
		atomic_fetch_sub(&left[WARM_WAITING], 1);
	}
	return NEXT(madvise)(at, len, advice);
}
