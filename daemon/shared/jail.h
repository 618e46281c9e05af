/* SPDX-License-Identifier: MIT
 *
 * A server's jail, as the supervisor makes it (supervisor/jail_make.h), and as servers inherit it
 * by fork and shut themselves in (server/jail.h).
 *
 * A server decodes what others have written. An attacker that takes it over shall have nothing but
 * the memory and the descriptors that it serves with. Servers are forked while the machine may wait
 * for its swap, so everything that is read, looked up, made or compiled is the supervisor's work.
 */
#ifndef UZD_JAIL_SHARED_H
#define UZD_JAIL_SHARED_H

#include <linux/filter.h>
#include <signal.h>
#include <sys/types.h>

#define JAIL_FILTER_MAX 256 /* instructions */

/* The only signal that a jailed thread can send: to another thread, to interrupt its system call.
 * SIGURG is ignored by default, so it can't harm another process. */
#define JAIL_SIGNAL SIGURG

struct jail {
	uid_t uid;
	gid_t gid;
	int root;    /* an empty directory that nothing can be made in */
	int network; /* a namespace without any; -errno: this system makes none */
	unsigned short filter_len;
	struct sock_filter filter[JAIL_FILTER_MAX];
};

#endif
