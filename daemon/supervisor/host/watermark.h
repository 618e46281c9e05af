/* SPDX-License-Identifier: MIT
 *
 * vm.watermark_boost_factor, off while swap goes through loop and FUSE.
 *
 * These take memory in the kernel for each request, and get none below the minimum watermark. By
 * default the kernel raises the watermarks when it finds memory in fragments, and only kswapd
 * lowers them again. When memory is used up, kswapd waits for pages to go out, these wait for
 * memory below the raised watermark, and the machine hangs.
 *
 * The setting is the machine's, and several devices may want it off. RUN_DIR holds a file with the
 * value that was found; each supervisor that wants it off keeps a shared lock on that file, and the
 * one that finds itself alone when it leaves puts the value back. The kernel takes the lock from a
 * supervisor that dies, and the file stays: the next supervisor goes on from there, of the same
 * device or of another, also if that one only has to put the value back.
 */
#ifndef UZD_WATERMARK_H
#define UZD_WATERMARK_H

/* Turn the boost off, unless this process has done so already. *lock is -1 at first, and the lock
 * from then on. Waits for half a second at most. 0, also where the kernel has no such setting, or
 * -errno. */
int watermark_boost_off(int *lock);

/* Give the lock up, and put the old value back if no other process wants it off: but not if the
 * setting has been changed meanwhile. lock may be -1: that clears away what the dead have left.
 * 0 or -errno. Neither call allocates memory. */
int watermark_boost_back(int *lock);

#endif
