/* SPDX-License-Identifier: MIT
 *
 * The supervisor's half of the jail: what servers will shut themselves in with. For the supervisor
 * alone.
 */
#ifndef UZD_JAIL_MAKE_H
#define UZD_JAIL_MAKE_H

#include "shared/jail.h"

/* Single-threaded, before the supervisor locks its memory. The user is "uzram" of /etc/passwd, else
 * nobody. Where network namespaces are refused, warns and goes on without: the filter forbids
 * sockets. 0 or -errno, which has been logged. */
int jail_init(struct jail *j);

/* Close what jail_init() has opened. Not in a server that has entered: its copies are closed. */
void jail_done(struct jail *j);

#endif
