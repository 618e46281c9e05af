/* SPDX-License-Identifier: MIT */
#include "supervisor/jail_make.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "shared/log.h"

#define USER   "uzram"
#define NOBODY 65534 /* the kernel's own: what it shows for users it can't map */

static int no_jail(const char *what, int err)
{
	log_error("can't make the server's jail: %s: %s", what, strerror(-err));
	return err;
}

/* From the file: getpwnam() would load name services' libraries and ask their servers, and swap
 * comes before either. */
static void find_user(struct jail *j)
{
	FILE *f = fopen("/etc/passwd", "re");
	struct passwd *pw;

	j->uid = NOBODY;
	j->gid = NOBODY;
	if (!f)
		return;
	while ((pw = fgetpwent(f))) {
		if (strcmp(pw->pw_name, USER) == 0 && pw->pw_uid != 0) {
			j->uid = pw->pw_uid;
			j->gid = pw->pw_gid;
			break;
		}
	}
	fclose(f);
}

/* The root of an empty file system that is mounted nowhere. */
static int open_empty_root(void)
{
	int fs, root = -1, err;

	fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -errno;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		root = fsmount(fs, FSMOUNT_CLOEXEC,
			       MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
				       MOUNT_ATTR_NOEXEC);
	err = -errno;
	close(fs);
	return root < 0 ? err : root;
}

static int open_own_network(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A namespace can only be made by entering it. */
static int open_empty_network(void)
{
	int own = open_own_network(), empty;

	if (own < 0)
		return own;
	/* First enter the own one, which changes nothing: a process that may not do that could not
	 * come back. */
	if (setns(own, CLONE_NEWNET) < 0 || unshare(CLONE_NEWNET) < 0) {
		empty = -errno;
	} else {
		empty = open_own_network();
		setns(own, CLONE_NEWNET);
	}
	close(own);
	return empty;
}

/* clang-format off */
/* The system calls of a server that serves, and no more. */
static const int allowed[] = {
	/* requests and replies; the socket to the supervisor; log lines, if there is room for them */
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(sendto), SCMP_SYS(recvfrom),
	SCMP_SYS(poll), SCMP_SYS(ppoll),
	/* the ublk device, from the supervisor; its descriptors are mapped by mmap, below */
	SCMP_SYS(recvmsg),
	/* the rings, which are set up; membarrier, before the drain thread sleeps */
	SCMP_SYS(io_uring_enter), SCMP_SYS(membarrier),
	/* populating memory; libc, for the stack of a thread that ends */
	SCMP_SYS(madvise),
	/* waiting: for each other; for time; where the vDSO has no clock; after SIGSTOP */
	SCMP_SYS(futex), SCMP_SYS(sched_yield), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
	SCMP_SYS(clock_gettime), SCMP_SYS(restart_syscall),
	/* signals; getpid and gettid belong to pthread_kill(), whose tgkill is below */
	SCMP_SYS(rt_sigtimedwait), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(getpid), SCMP_SYS(gettid),
	/* whether the supervisor lives */
	SCMP_SYS(getppid),
	/* taking over: the arena's extents; fcntl, for the lock, and fallocate, for the rests, are
	 * below */
	SCMP_SYS(lseek),
	/* malloc(), with mmap and mprotect below; qsort(), which takes the answer unchecked */
	SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(sysinfo),
	/* the end */
	SCMP_SYS(exit), SCMP_SYS(exit_group),
#ifdef __SANITIZE_ADDRESS__
	SCMP_SYS(sigaltstack), /* it ends a thread, and the process, with this */
#endif
};
/* clang-format on */

static const scmp_datum_t lock_commands[] = {
	F_SETLK, F_SETLKW,
#ifdef UZ_TEST_HOOKS
	F_GETLK, /* for the condition of a crash point */
#endif
};

/* 0 or -errno, as libseccomp has it. */
static int add_rules(scmp_filter_ctx ctx)
{
	int err = 0;

	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]) && !err; i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; i < sizeof(lock_commands) / sizeof(lock_commands[0]) && !err; i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				       SCMP_A1(SCMP_CMP_EQ, lock_commands[i]));
	if (!err) /* nothing executable; of files, to read only */
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				       SCMP_A2(SCMP_CMP_EQ, PROT_READ));
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
				       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
				       SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS | MAP_TYPE,
					       MAP_ANONYMOUS | MAP_PRIVATE));
	if (!err) /* to give memory back, not to have any */
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fallocate), 1,
				       SCMP_A1(SCMP_CMP_EQ,
					       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE));
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				       SCMP_A2(SCMP_CMP_EQ, JAIL_SIGNAL));
	return err;
}

/* Get the filter as the kernel takes it. By way of a file: libseccomp 2.5 can't write to memory. */
static int export_filter(scmp_filter_ctx ctx, struct jail *j)
{
	int fd = memfd_create("uzram-filter", MFD_CLOEXEC), err;
	ssize_t len;

	if (fd < 0)
		return -errno;
	err = seccomp_export_bpf(ctx, fd);
	if (!err) {
		len = pread(fd, j->filter, sizeof(j->filter), 0);
		if (len < 0)
			err = -errno;
		else if (len == sizeof(j->filter))
			err = -E2BIG;
		else
			j->filter_len = (unsigned short)((size_t)len / sizeof(j->filter[0]));
	}
	close(fd);
	return err;
}

static int compile_filter(struct jail *j)
{
	/* An error, not a signal: a call that some libc makes and that is missing here must not
	 * cost the server. No libc makes a call of another architecture. */
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int err;

	if (!ctx)
		return -ENOMEM;
	err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!err)
		err = add_rules(ctx);
	if (!err)
		err = export_filter(ctx, j);
	seccomp_release(ctx);
	return err;
}

int jail_init(struct jail *j)
{
	int err;

	*j = (struct jail){.root = -1, .network = -1};
	find_user(j);
	if (j->uid == NOBODY)
		log_warning("there is no user " USER ": the server runs as nobody, and every other "
			    "process of nobody could stop it; systemd-sysusers makes the user");
	err = compile_filter(j);
	if (err)
		return no_jail("system call filter", err);
	j->root = open_empty_root();
	if (j->root < 0)
		return no_jail("empty root directory", j->root);
	j->network = open_empty_network();
	if (j->network < 0)
		log_warning("can't make a network namespace: %s; the server stays in this one, "
			    "though it can open no socket",
			    strerror(-j->network));
	return 0;
}

void jail_done(struct jail *j)
{
	if (j->network >= 0)
		close(j->network);
	if (j->root >= 0)
		close(j->root);
}
