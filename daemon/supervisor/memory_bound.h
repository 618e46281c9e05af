/* SPDX-License-Identifier: MIT
 *
 * How much memory the arena may have at most, whatever a server does with it. memory.limit is kept
 * by the server, and by a server that an attacker has taken over it is not: without this bound such
 * a server could fill the machine with memory that is never swapped out, by a process that is never
 * the OOM killer's victim. For the supervisor alone.
 */
#ifndef UZD_MEMORY_BOUND_H
#define UZD_MEMORY_BOUND_H

#include "config/config.h"
#include "shared/shared.h"

/* Bound the arena as config wants; what it has already stays. Where that can't be done, warns and
 * goes on without. */
void memory_bound(const struct config *config, const struct state *state);

#endif
