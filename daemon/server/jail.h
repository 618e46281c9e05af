/* SPDX-License-Identifier: MIT
 *
 * What a server gives up: it decodes what others have written, so whoever takes it over shall have
 * nothing beyond the memory and the descriptors that it serves with.
 *
 * In two steps, since threads, ring and locked memory take rights that serving does not. Servers
 * are forked while the machine may wait for its swap, so everything that is read, looked up, made
 * or compiled is the supervisor's work, in jail_init(); the server's two steps are system calls
 * that take next to no memory.
 */
#ifndef UZD_JAIL_H
#define UZD_JAIL_H

#include <linux/filter.h>
#include <signal.h>
#include <sys/types.h>

#define JAIL_FILTER_MAX 256 /* instructions */

/* The only signal that a jailed thread can send: to another thread, to interrupt its system call.
 * One that nobody else can be hurt with: where it has no handler it does nothing. */
#define JAIL_SIGNAL SIGURG

/* The supervisor's; servers inherit it by fork. */
struct jail {
	uid_t uid;
	gid_t gid;
	int root;    /* an empty directory that nothing can be made in */
	int network; /* a namespace without any; -errno: this system makes none */
	unsigned short filter_len;
	struct sock_filter filter[JAIL_FILTER_MAX];
};

/* Supervisor, single-threaded, before it locks its memory. The user is "uzram" of /etc/passwd, else
 * nobody. Where network namespaces are refused, warns and goes on without: the filter forbids
 * sockets. 0 or -errno, which has been logged. */
int jail_init(struct jail *j);

/* Close what jail_init() has opened. Not in a server that has entered: its copies are closed. */
void jail_done(struct jail *j);

/* Server, first thing, single-threaded: no network, the empty root, no capabilities to inherit or
 * to gain, no_new_privs. It is still root, with every capability it has in effect. 0 or -errno,
 * which has been logged; the process must end then. */
int jail_enter(const struct jail *j);

/* Server, when all its threads have done what they do only once (naming themselves, say) and all
 * its memory is mapped and locked: become the user, without any capability, and allow no system
 * call but those of serving; all threads of the process do. Any other call fails with EPERM from
 * now on. 0 or -errno, which has been logged; the process must end then.
 *
 * The parent-death signal, which the kernel forgets with a change of user, is set again as it was:
 * the parent takes CAP_KILL to send it, and if it died meanwhile none will come (see getppid()).
 * Threads are interrupted (EINTR where a call is not restarted), and waited for if they are in the
 * kernel. Neither the main thread's stack nor the heap can grow beyond RLIMIT_MEMLOCK any more. A
 * kernel thread that io_uring has started before keeps its capabilities; no request runs with
 * them. */
int jail_close(const struct jail *j);

#endif
