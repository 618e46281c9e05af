/* SPDX-License-Identifier: MIT */
#include "server/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared/log.h"

#define JAIL_GROWTH (UINT64_C(16) << 20) /* bytes */

static int refused(const char *what, int err)
{
	log_error("can't make the server's jail: %s: %s", what, strerror(-err));
	return err;
}

/* Drop the capability sets that a change of user leaves as they are: inheritable, and with it
 * ambient; bounding. The others go with the user, unless a securebit says that they stay. While the
 * process is one thread. -1 with errno set on failure.
 *
 * libcap-ng would read /proc for this. */
static int drop_inheritable(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, sets) < 0)
		return -1;
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		sets[i].inheritable = 0;
	if (syscall(SYS_capset, &header, sets) < 0 || prctl(PR_SET_SECUREBITS, 0) < 0)
		return -1;
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap) < 0)
			return -1;
	}
	return 0;
}

/* /proc/self/statm, which can't be opened from within: a process has one jail. */
static int statm = -1;

int jail_enter(const struct jail *j)
{
	statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	if (statm < 0)
		return refused("size", -errno);
	if (j->network >= 0 && setns(j->network, CLONE_NEWNET) < 0)
		return refused("network namespace", -errno);
	if (fchdir(j->root) < 0 || chroot(".") < 0)
		return refused("root directory", -errno);
	close(j->root);
	if (j->network >= 0)
		close(j->network);
	if (drop_inheritable() < 0)
		return refused("capabilities", -errno);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return refused("no_new_privs", -errno);
	return 0;
}

/* All that serving takes is mapped: there shall be no more than a little on top, for what libraries
 * allocate. A process with RLIMIT_MEMLOCK lifted, and that the OOM killer spares, could else take
 * all of the machine's memory. */
static int limit_size(void)
{
	char text[64];
	ssize_t len = pread(statm, text, sizeof(text) - 1, 0);
	struct rlimit limit;

	if (len <= 0)
		return -1;
	text[len] = '\0';
	limit.rlim_cur = strtoul(text, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE) + JAIL_GROWTH;
	limit.rlim_max = limit.rlim_cur;
	close(statm);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return 0; /* they map what they like */
#endif
	return setrlimit(RLIMIT_AS, &limit);
}

int jail_close(const struct jail *j)
{
	const struct sock_fprog filter = {
		.len = j->filter_len,
		.filter = (struct sock_filter *)(uintptr_t)j->filter, /* only read */
	};
	const unsigned flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
	int signal;

	if (prctl(PR_GET_PDEATHSIG, &signal) < 0)
		return refused("parent-death signal", -errno);
	if (limit_size() < 0)
		return refused("size", -errno);
	/* libc's functions, since they have every thread do it. */
	if (setgroups(0, NULL) < 0 || setresgid(j->gid, j->gid, j->gid) < 0 ||
	    setresuid(j->uid, j->uid, j->uid) < 0)
		return refused("user", -errno);
	if (prctl(PR_SET_PDEATHSIG, signal) < 0)
		return refused("parent-death signal", -errno);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter) < 0)
		return refused("system call filter", -errno);
	return 0;
}
