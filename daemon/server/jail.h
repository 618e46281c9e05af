/* SPDX-License-Identifier: MIT
 *
 * What a server gives up. In two steps, since threads, ring and locked memory take rights that
 * serving does not. Both are system calls that take next to no memory. For the server alone.
 */
#ifndef UZD_JAIL_H
#define UZD_JAIL_H

#include "shared/jail.h"

/* First thing, single-threaded: no network, the empty root, no capabilities to inherit or
 * to gain, no_new_privs. It is still root, with every capability it has in effect. 0 or -errno,
 * which has been logged; the process must end then. */
int jail_enter(const struct jail *j);

/* When all the server's threads have done what they do only once (naming themselves, say) and all
 * its memory is mapped and locked: become the user, without any capability, and allow no system
 * call but those of serving; all threads of the process do. Any other call fails with EPERM from
 * now on, and the process can map next to nothing more. 0 or -errno, which has been logged; the
 * process must end then.
 *
 * The parent-death signal, which the kernel forgets with a change of user, is set again as it was:
 * to send it the parent needs CAP_KILL, and none comes if the parent has died meanwhile (see
 * getppid()). Threads are interrupted (EINTR where a call is not restarted), and waited for if they
 * are in the kernel. Neither the main thread's stack nor the heap can grow beyond RLIMIT_MEMLOCK
 * any more. A kernel thread that io_uring has started before keeps its capabilities; no request
 * runs with them. */
int jail_close(const struct jail *j);

#endif
