/* SPDX-License-Identifier: MIT
 *
 * The OOM killer, where the kernel can't know that it is time for it.
 *
 * A device whose memory.limit is reached, or for which there is no memory, fails writes at once.
 * The kernel keeps those pages, but goes on counting the device's free slots as memory that can be
 * had: it swaps out the same pages in vain again and again, and never calls its OOM killer. The
 * machine stands still instead, with swap in the kernel's zram, too. The supervisor knows better:
 * when writes have failed for some seconds, and next to no memory is available, it has the kernel
 * call the OOM killer (sysrq-f), once, and then gives it time.
 *
 * Nothing here takes memory once oom_init() is done.
 */
#ifndef UZD_OOM_H
#define UZD_OOM_H

#include <stdbool.h>
#include <stdint.h>

struct oom {
	int meminfo, trigger; /* descriptors; -1: there is none, and this does nothing */
	uint64_t failed;      /* writes, at the last tick */
	int ticks; /* in a row with failed writes and without memory; < 0: time is given */
};

void oom_init(struct oom *o);

/* About every second. failed: how many writes have failed for want of memory, or because of the
 * limit, since the server began; it is not trusted, and does nothing where memory is available.
 * True: the OOM killer was called. */
bool oom_tick(struct oom *o, uint64_t failed);

#endif
