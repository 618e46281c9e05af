/* SPDX-License-Identifier: MIT
 *
 * daemon/jail from both sides: a server in its jail tries, in each of its threads, what it must not
 * be able to do and what it must; and /proc tells what each thread is.
 *
 * A server is a fork of the test with some threads, each of which calls the functions that the test
 * names to it and reports what they return. It judges nothing.
 */
#include "server/jail.h"
#include "supervisor/jail_make.h"

/* cmocka.h wants these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <liburing.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEST_SECONDS 30
#define FILE_SIZE    (1 << 20)

/* The server's threads. */
enum { MAIN, RING, OTHER, THREADS };

typedef long action(void);

#define ACTION(name, expression)                                                                   \
	static long name(void)                                                                     \
	{                                                                                          \
		return (expression);                                                               \
	}

struct answer {
	long result;
	int error; /* errno, if result is -1 */
};

/* The test and all servers have these in common. */
static struct jail jail;
static int memory; /* a file of FILE_SIZE bytes */
static int pipes[2];

/* --- a server --- */

struct server {
	pid_t pid;
	int sockets[THREADS];
};

static char page[4096] __attribute__((aligned(4096)));
static int own_sockets[THREADS];
static pthread_t threads[THREADS];
static struct io_uring ring;

static void *obey(void *arg)
{
	int socket = *(int *)arg;
	action *act;

	while (recv(socket, &act, sizeof(act), 0) == sizeof(act)) {
		struct answer a;

		errno = 0;
		a.result = act();
		a.error = a.result == -1 ? errno : 0;
		if (send(socket, &a, sizeof(a), MSG_NOSIGNAL) < 0)
			break;
	}
	return NULL;
}

static void wake(int signal)
{
}

/* Returns when the test has closed its end. */
static void run_server(void)
{
	const struct sigaction sa = {.sa_handler = wake};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(JAIL_SIGNAL, &sa, NULL);
	if (io_uring_queue_init(8, &ring, 0) || jail_enter(&jail))
		return;
	threads[MAIN] = pthread_self();
	for (int i = RING; i < THREADS; i++) {
		if (pthread_create(&threads[i], NULL, obey, &own_sockets[i]))
			return;
	}
	obey(&own_sockets[MAIN]);
}

static void tell(const struct server *s, int thread, action *act)
{
	assert_int_equal(send(s->sockets[thread], &act, sizeof(act), MSG_NOSIGNAL), sizeof(act));
}

static bool has_answered(const struct server *s, int thread, int timeout_ms)
{
	struct pollfd fd = {s->sockets[thread], POLLIN, 0};

	return poll(&fd, 1, timeout_ms) == 1;
}

static struct answer hear(const struct server *s, int thread)
{
	struct answer a;

	assert_int_equal(recv(s->sockets[thread], &a, sizeof(a), 0), sizeof(a));
	return a;
}

static struct answer ask(const struct server *s, int thread, action *act)
{
	tell(s, thread, act);
	return hear(s, thread);
}

static void expect(const struct server *s, int thread, action *act, long result, int error)
{
	struct answer a = ask(s, thread, act);

	assert_int_equal(a.error, error);
	assert_int_equal(a.result, result);
}

ACTION(do_nothing, 0)

/* Returns when all its threads run. */
static void start_server(struct server *s)
{
	int pair[2];

	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		s->sockets[i] = pair[0];
		own_sockets[i] = pair[1];
	}
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		for (int i = 0; i < THREADS; i++)
			close(s->sockets[i]);
		run_server();
		_exit(0);
	}
	for (int i = 0; i < THREADS; i++) {
		close(own_sockets[i]);
		expect(s, i, do_nothing, 0, 0);
	}
}

static void end_server(struct server *s)
{
	int status;

	for (int i = 0; i < THREADS; i++)
		close(s->sockets[i]);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	assert_int_equal(status, 0);
}

ACTION(close_jail, jail_close(&jail))

static void start_jailed(struct server *s)
{
	start_server(s);
	expect(s, MAIN, close_jail, 0, 0);
}

/* --- what each thread is --- */

/* The value of a line of a status file. */
static const char *field(const char *status, const char *name, char value[128])
{
	char line[64];
	const char *p;

	snprintf(line, sizeof(line), "\n%s:", name);
	p = strstr(status, line);
	assert_non_null(p);
	p += strlen(line);
	p += strspn(p, " \t");
	snprintf(value, 128, "%.*s", (int)strcspn(p, "\n"), p);
	return value;
}

static void expect_powerless(const char *status)
{
	static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
	char value[128], want[128];

	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		assert_string_equal(field(status, sets[i], value), "0000000000000000");
	assert_string_equal(field(status, "NoNewPrivs", value), "1");
	assert_string_equal(field(status, "Seccomp", value), "2");
	assert_string_equal(field(status, "Groups", value), "");
	snprintf(want, sizeof(want), "%u\t%u\t%u\t%u", jail.uid, jail.uid, jail.uid, jail.uid);
	assert_string_equal(field(status, "Uid", value), want);
	snprintf(want, sizeof(want), "%u\t%u\t%u\t%u", jail.gid, jail.gid, jail.gid, jail.gid);
	assert_string_equal(field(status, "Gid", value), want);
}

static void read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, text, size - 1);
	assert_true(n >= 0);
	text[n] = '\0';
	close(fd);
}

/* Returns how many threads there are. */
static int expect_all_powerless(pid_t pid)
{
	char path[PATH_MAX], status[4096];
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, entry->d_name);
		read_text(path, status, sizeof(status));
		expect_powerless(status);
		count++;
	}
	closedir(dir);
	return count;
}

/* What a service or a container may be started with: a group, and capabilities that are inheritable
 * and ambient. */
static void gain_what_is_inherited(void)
{
	const gid_t group = 1;

	struct {
		uint32_t version;
		int pid;
	} header = {0x20080522, 0};
	struct {
		uint32_t effective, permitted, inheritable;
	} sets[2];

	assert_int_equal(setgroups(1, &group), 0);
	assert_int_equal(syscall(SYS_capget, &header, sets), 0);
	sets[0].inheritable = sets[0].permitted;
	assert_int_equal(syscall(SYS_capset, &header, sets), 0);
	assert_int_equal(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0), 0);
}

static void test_every_thread_is_powerless(void **state)
{
	struct server s;

	gain_what_is_inherited();
	start_jailed(&s);
	assert_int_equal(expect_all_powerless(s.pid), THREADS);
	end_server(&s);
}

static void test_user_is_not_root(void **state)
{
	const struct passwd *own = getpwnam("uzram");

	assert_int_equal(jail.uid, own ? own->pw_uid : 65534);
	assert_int_equal(jail.gid, own ? own->pw_gid : 65534);
	assert_int_not_equal(jail.uid, 0);
}

/* --- what it can't --- */

static long run_itself(void)
{
	char *argv[] = {(char[]){"test_jail"}, NULL};

	return execv("/proc/self/exe", argv);
}

static long clone_itself(void)
{
	long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	return pid;
}

static long mapped(void *p)
{
	return p == MAP_FAILED ? -1 : 0;
}

/* Most would succeed, but for the filter. */
ACTION(try_open, openat(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC))
ACTION(try_socket, socket(AF_UNIX, SOCK_STREAM, 0))
ACTION(try_execve, run_itself())
ACTION(try_clone, clone_itself())
ACTION(try_io_uring_setup, syscall(SYS_io_uring_setup, 1, &(struct io_uring_params){0}))
ACTION(try_io_uring_register,
       syscall(SYS_io_uring_register, ring.ring_fd, IORING_UNREGISTER_FILES, NULL, 0))
ACTION(try_ptrace, ptrace(PTRACE_TRACEME, 0, NULL, NULL))
ACTION(try_kill_parent, kill(getppid(), 0))
ACTION(try_kill, kill(getpid(), 0))
ACTION(try_tgkill, syscall(SYS_tgkill, getpid(), gettid(), SIGWINCH))
ACTION(try_mmap_exec,
       mapped(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)))
ACTION(try_mmap_file, mapped(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0)))
ACTION(try_mmap_shared,
       mapped(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)))
ACTION(try_fallocate, fallocate(memory, FALLOC_FL_KEEP_SIZE, 0, 4096))
ACTION(try_mprotect_exec, mprotect(page, sizeof(page), PROT_READ | PROT_WRITE | PROT_EXEC))
ACTION(try_setresuid_root, syscall(SYS_setresuid, 0, 0, 0))
ACTION(try_setresuid, syscall(SYS_setresuid, -1, -1, -1))
ACTION(try_ioctl, ioctl(pipes[0], FIONREAD, &(int){0}))
ACTION(try_prctl, prctl(PR_SET_DUMPABLE, 1))
ACTION(try_sendmsg, sendmsg(own_sockets[MAIN], &(struct msghdr){0}, 0))

static void test_all_else_is_refused(void **state)
{
	static action *const actions[] = {
		try_open,	   try_socket,	       try_execve,
		try_clone,	   try_io_uring_setup, try_io_uring_register,
		try_ptrace,	   try_kill_parent,    try_kill,
		try_tgkill,	   try_mmap_exec,      try_mmap_file,
		try_mprotect_exec, try_setresuid_root, try_setresuid,
		try_ioctl,	   try_prctl,	       try_sendmsg,
		try_mmap_shared,   try_fallocate,
	};
	struct server s;

	start_jailed(&s);
	for (int thread = 0; thread < THREADS; thread++) {
		for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
			expect(&s, thread, actions[i], -1, EPERM);
	}
	end_server(&s);
}

#define MUCH ((size_t)64 << 20)

ACTION(map_little, mapped(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)))
ACTION(map_much, mapped(mmap(NULL, MUCH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)))
ACTION(map_much_of_file, mapped(mmap(NULL, MUCH, PROT_READ, MAP_SHARED, memory, 0)))
ACTION(grow_heap, syscall(SYS_brk, (char *)sbrk(0) + MUCH) < (long)((char *)sbrk(0) + MUCH))

/* Not even with mappings that can only be read: their page tables are memory, too. */
static void test_address_space_ends(void **state)
{
	struct server s;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip();
#endif
	start_jailed(&s);
	expect(&s, MAIN, map_little, 0, 0);
	expect(&s, OTHER, map_much, -1, ENOMEM);
	expect(&s, OTHER, map_much_of_file, -1, ENOMEM);
	expect(&s, MAIN, grow_heap, 1, 0);
	end_server(&s);
}

/* --- what is left of the world, before the filter hides it --- */

ACTION(try_open_etc, open("/etc", O_RDONLY | O_CLOEXEC))
ACTION(try_climb, open("../../etc", O_RDONLY | O_CLOEXEC))
ACTION(try_mkdir, mkdir("/new", 0700))

static long count_root(void)
{
	DIR *dir = opendir("/");
	long count = 0;

	if (!dir)
		return -1;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

ACTION(try_root_fd, fcntl(jail.root, F_GETFD))
ACTION(try_network_fd, fcntl(jail.network, F_GETFD))

static void test_root_is_empty(void **state)
{
	struct server s;

	start_server(&s);
	expect(&s, MAIN, try_open_etc, -1, ENOENT);
	expect(&s, MAIN, try_climb, -1, ENOENT);
	expect(&s, MAIN, try_mkdir, -1, EROFS);
	expect(&s, MAIN, count_root, 2, 0); /* . and .. */
	expect(&s, MAIN, try_root_fd, -1, EBADF);
	end_server(&s);
}

static ino_t own_network; /* before jail_init() */

static ino_t network_of(const char *pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%s/ns/net", pid);
	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

static void test_there_is_no_network(void **state)
{
	char pid[16];
	struct server s;

	if (jail.network < 0) {
		print_message("network namespaces are refused here\n");
		skip();
	}
	assert_int_equal(network_of("self"), own_network);
	start_server(&s);
	expect(&s, MAIN, try_network_fd, -1, EBADF);
	snprintf(pid, sizeof(pid), "%d", s.pid);
	assert_int_not_equal(network_of(pid), own_network);
	end_server(&s);
}

/* --- what it can --- */

static long read_pipe(void)
{
	char byte;

	return read(pipes[0], &byte, 1) == 1 ? byte : -1;
}

ACTION(write_pipe, write(pipes[1], "w", 1))

static long use_heap(void)
{
	enum { COUNT = 1000 };
	char *p[COUNT];

	for (int i = 0; i < COUNT; i++) {
		p[i] = calloc(1, 1000);
		if (!p[i])
			return -1;
	}
	for (int i = 0; i < COUNT; i++)
		free(p[i]);
	return 0;
}

/* 0, or the number of what does not work. */
static long wait_and_populate(void)
{
	struct timespec soon = {.tv_nsec = 1000000};
	struct iovec iov = {.iov_base = page};
	uint32_t word = 0;
	sigset_t term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &soon) == 0 || errno != ETIMEDOUT)
		return 1;
	if (sigtimedwait(&term, NULL, &soon) == 0 || errno != EAGAIN)
		return 2;
	if (usleep(1) || nanosleep(&soon, NULL))
		return 3;
	if (sched_yield())
		return 4;
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) < 0)
		return 5;
	if (madvise(page, sizeof(page), MADV_POPULATE_WRITE))
		return 6;
	return writev(pipes[1], &iov, 1) ? 7 : 0;
}

static long punch(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	struct __kernel_timespec second = {.tv_sec = 1};
	struct io_uring_cqe *cqe;
	int err;

	io_uring_prep_fallocate(sqe, memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				FILE_SIZE);
	err = io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &second, NULL);
	if (err < 0)
		return err;
	err = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return err;
}

ACTION(punch_by_call, fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, FILE_SIZE))

ACTION(interrupt_ring_thread, pthread_kill(threads[RING], JAIL_SIGNAL))

static void test_serving_works(void **state)
{
	struct server s;

	start_jailed(&s);
	for (int thread = 0; thread < THREADS; thread++) {
		assert_int_equal(write(pipes[1], "r", 1), 1);
		expect(&s, thread, read_pipe, 'r', 0);
		expect(&s, thread, write_pipe, 1, 0);
		assert_int_equal(read_pipe(), 'w');
		expect(&s, thread, use_heap, 0, 0);
		expect(&s, thread, wait_and_populate, 0, 0);
	}
	end_server(&s);
}

/* A worker of the kernel's punches: it is a thread of the server too. */
static void test_ring_works(void **state)
{
	struct server s;
	struct stat st;

	start_jailed(&s);
	assert_int_equal(fallocate(memory, 0, 0, FILE_SIZE), 0);
	expect(&s, RING, punch, 0, 0);
	assert_int_equal(fstat(memory, &st), 0);
	assert_int_equal(st.st_blocks, 0);
	assert_true(expect_all_powerless(s.pid) > THREADS);
	expect(&s, OTHER, punch_by_call, 0, 0);
	end_server(&s);
}

static void test_threads_interrupt_each_other(void **state)
{
	struct server s;
	struct answer a;

	start_jailed(&s);
	tell(&s, RING, read_pipe);
	do /* it may not have begun to read */
		expect(&s, MAIN, interrupt_ring_thread, 0, 0);
	while (!has_answered(&s, RING, 10));
	a = hear(&s, RING);
	assert_int_equal(a.result, -1);
	assert_int_equal(a.error, EINTR);
	end_server(&s);
}

/* The change of user interrupts a thread that waits; the wait goes on. */
static void test_closing_disturbs_no_thread(void **state)
{
	struct server s;

	start_server(&s);
	tell(&s, OTHER, read_pipe);
	assert_false(has_answered(&s, OTHER, 50)); /* it reads */
	expect(&s, MAIN, close_jail, 0, 0);
	assert_false(has_answered(&s, OTHER, 50));
	assert_int_equal(write(pipes[1], "x", 1), 1);
	assert_int_equal(hear(&s, OTHER).result, 'x');
	end_server(&s);
}

/* --- the supervisor --- */

/* A process of its own, in which a failed assertion is its end. */
static pid_t start_child(void (*run)(void))
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv("CMOCKA_TEST_ABORT", "1", 1);
		run();
		_exit(0);
	}
	return pid;
}

static void in_child(void (*run)(void))
{
	pid_t pid = start_child(run);
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void supervise_and_die(void)
{
	struct server s;

	start_jailed(&s);
	tell(&s, MAIN, read_pipe); /* until the test writes to it, if the signal does not come */
	raise(SIGKILL);
}

static void test_server_dies_with_its_parent(void **state)
{
	struct pollfd end;
	int alive[2], status;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	assert_int_equal(pipe2(alive, O_CLOEXEC), 0);
	waitpid(start_child(supervise_and_die), NULL, 0);
	close(alive[1]);
	end = (struct pollfd){alive[0], POLLIN, 0};
	poll(&end, 1, 5000); /* until nobody has the other end */
	close(alive[0]);
	assert_int_equal(write(pipes[1], "x", 1), 1);
	waitpid(-1, &status, 0);
	assert_int_equal(status, SIGKILL);
	assert_int_equal(read_pipe(), 'x');
}

/* As a container or a service's sandbox does. */
static void refuse(int call)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

	assert_int_equal(seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), call, 0), 0);
	assert_int_equal(seccomp_load(ctx), 0);
	seccomp_release(ctx);
}

static void expect_no_network(int call)
{
	struct server s;

	jail_done(&jail);
	refuse(call);
	assert_int_equal(jail_init(&jail), 0);
	assert_true(jail.network < 0);
	assert_int_equal(network_of("self"), own_network);
	start_jailed(&s);
	end_server(&s);
}

static void refuse_unshare(void)
{
	expect_no_network(SCMP_SYS(unshare));
}

static void refuse_setns(void)
{
	expect_no_network(SCMP_SYS(setns));
}

static void test_namespaces_may_be_refused(void **state)
{
	in_child(refuse_unshare);
	in_child(refuse_setns);
}

/* What has no substitute is an error. */
static void refuse_fsopen(void)
{
	jail_done(&jail);
	refuse(SCMP_SYS(fsopen));
	assert_int_equal(jail_init(&jail), -ENOSYS);
}

static void refuse_seccomp(void)
{
	struct server s;

	refuse(SCMP_SYS(seccomp));
	start_server(&s);
	expect(&s, MAIN, close_jail, -ENOSYS, 0);
	end_server(&s);
}

static void refuse_chroot(void)
{
	refuse(SCMP_SYS(chroot));
	assert_int_equal(jail_enter(&jail), -ENOSYS);
}

static void test_the_rest_may_not_be_refused(void **state)
{
	in_child(refuse_fsopen);
	in_child(refuse_chroot);
	in_child(refuse_seccomp);
}

/* --- set-up and clearing away --- */

static int each_setup(void **state)
{
	alarm(TEST_SECONDS);
	return 0;
}

static int all_setup(void **state)
{
	memory = memfd_create("test_jail", MFD_CLOEXEC);
	if (memory < 0 || pipe2(pipes, O_CLOEXEC))
		return -1;
	own_network = network_of("self");
	return jail_init(&jail);
}

static int all_teardown(void **state)
{
	jail_done(&jail);
	close(memory);
	close(pipes[0]);
	close(pipes[1]);
	return 0;
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup(function, each_setup)
	const struct CMUnitTest tests[] = {
		TEST(test_user_is_not_root),
		TEST(test_every_thread_is_powerless),
		TEST(test_all_else_is_refused),
		TEST(test_address_space_ends),
		TEST(test_root_is_empty),
		TEST(test_there_is_no_network),
		TEST(test_serving_works),
		TEST(test_ring_works),
		TEST(test_threads_interrupt_each_other),
		TEST(test_closing_disturbs_no_thread),
		TEST(test_server_dies_with_its_parent),
		TEST(test_namespaces_may_be_refused),
		TEST(test_the_rest_may_not_be_refused),
	};

	if (geteuid()) {
		fprintf(stderr, "SKIP: needs root\n");
		return 77;
	}
	return cmocka_run_group_tests_name("jail", tests, all_setup, all_teardown);
}
