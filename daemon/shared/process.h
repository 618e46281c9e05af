/* SPDX-License-Identifier: MIT
 *
 * What a process must arrange before it may stand in the way of the kernel's memory reclaim.
 */
#ifndef UZD_PROCESS_H
#define UZD_PROCESS_H

/* For this process and those it forks: be the last the OOM killer takes, have the kernel allocate
 * on our behalf without calling back into file systems and block devices (PR_SET_IO_FLUSHER), and
 * lock as much memory as it takes. Logs what the kernel refuses. */
void process_protect(void);

/* Whoever starts servers runs before everybody else; what it forks, again like everybody else. What
 * is refused (it takes CAP_SYS_NICE, or the unit's Nice=) is done without. */
void process_hurry(void);
void process_unhurry(void);

/* Lock all that is mapped now into memory, populated and with no copy-on-write left; and lock what
 * is mapped later, page by page as it is touched. Not inherited: each process for itself, before it
 * maps the arena. 0 or -errno. */
int process_lock_memory(void);

/* Close all descriptors but the n of fds, at most PROCESS_KEEP_MAX, which is sorted; those that are
 * -1 don't count. 0 or -errno. */
#define PROCESS_KEEP_MAX 128
int process_keep_fds(int *fds, unsigned n);

/* Have the threads made from now on get small stacks. Where the kernel does not overcommit, a stack
 * counts with its whole size, 8 MiB by default. */
void process_small_stacks(void);

/* Have malloc() keep the memory it has, so that small allocations of libraries don't reach the
 * kernel. */
void process_keep_heap(void);

#endif
