/* SPDX-License-Identifier: MIT
 *
 * What the machine has that a configuration depends on.
 */
#ifndef UZD_MACHINE_H
#define UZD_MACHINE_H

#include <stdint.h>

struct machine {
	uint64_t ram; /* bytes, at least 2 MiB: "ram" in a configuration */
	/* Bytes that this process may have of it: all, or what its memory cgroup and those above
	 * allow. */
	uint64_t room;
	unsigned cpus; /* at least 1 */
};

/* Look at this one. What can't be told of the cgroups allows everything. */
void machine_look(struct machine *ret);

#endif
