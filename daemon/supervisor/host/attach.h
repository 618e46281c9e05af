/* SPDX-License-Identifier: MIT
 *
 * From a file to a block device to swap: loop attach, the device's stable name, swap header,
 * swapon, and the way back.
 *
 * Opening, reading and writing the file or the block device are requests to the server behind it,
 * and most calls here make some. Therefore they need a living server, may block for as long as it
 * takes to answer, and must not be made by a thread that it needs: whoever has to keep the server
 * alive makes them in short-lived children. The exceptions are attach_is_backed_by(), and
 * attach_unloop() while the device has nothing left to write: they ask nothing of the server.
 *
 * Nothing here keeps state: the kernel's own tables (sysfs, /proc/swaps) are what is asked. Any
 * thread may call any function; two that name the same device must be kept apart by the caller.
 *
 * attach_loop.c makes the block device and its name, attach_swap.c makes swap of it.
 */
#ifndef UZD_ATTACH_H
#define UZD_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/block_device.h"

#define ATTACH_PATH_MAX BLOCK_DEVICE_PATH_MAX

/* Attach file, a regular file of a multiple of 4096 bytes, to a free loop device with direct I/O,
 * logical blocks of block_size (512 or 4096) bytes and no write-back throttling, and store the
 * device's path, such as "/dev/loop3", in ret_dev. It stays attached until attach_unloop(), whoever
 * opens and closes it. Needs Linux 5.8.
 *
 * file must be absolute and free of symbolic links, "." and "..", since that is how the kernel will
 * name it to attach_unloop(): -EINVAL if it is not. -EINVAL too if the file can't have direct I/O
 * with such blocks. Another program that takes the same free device first is no error: the next one
 * is tried; -EBUSY (or -ENXIO, if it is forever being torn down) if that keeps happening for more
 * than half a second. */
int attach_loop(const char *file, unsigned block_size, char ret_dev[ATTACH_PATH_MAX]);

/* Write value to the attribute of dev's request queue. 0 or -errno. */
int attach_set_queue(const char *dev, const char *attribute, const char *value);

/* Is dev (still) a loop device over file, named as for attach_loop()? Asks nothing of file's
 * server, and is true too once the kernel has lost sight of the name, which it does after the
 * server's death. */
bool attach_is_backed_by(const char *dev, const char *file);

/* Detach dev if it is (still) backed by file, and return once it is detached; 0 if it is not backed
 * by file. file is compared by name with what the kernel says and is not touched, so that its
 * server may be dead.
 *
 * -EBUSY, and nothing is changed, if dev is mounted, in use as swap or otherwise claimed. -EBUSY
 * too if it is merely held open and that does not end within five seconds: the kernel will then
 * detach it at the last close. When someone else's close was the last, the kernel may drop its
 * reference to file a moment after this returns: who unmounts the file system of file next must be
 * ready to try again on EBUSY. */
int attach_unloop(const char *dev, const char *file);

/* Make /dev/uzram/NAME a symbolic link to dev, replacing what a dead daemon left there. It is
 * replaced in one step: who looks finds the old link or the new one. */
int attach_link(const char *name, const char *dev);

/* Remove that link, and the directory if it was the last. 0 if there is none. */
int attach_unlink(const char *name);

/* Discard all of dev. With file, only if dev is (still) backed by it, else -ENODEV. -EBUSY, and
 * nothing is changed, if dev is mounted, in use as swap or otherwise claimed. */
int attach_discard(const char *dev, const char *file);

/* Write a swap header (version 1, page size 4096, a random UUID, label) as mkswap does, and zeroes
 * over whatever signatures dev carries, without looking at them. label is cut to 15 bytes. -EBUSY
 * if dev is mounted or in use as swap, -EINVAL if it is smaller than mkswap's least (10 pages). */
int attach_mkswap(const char *dev, const char *label);

/* swapon(2) with priority (0..32767, or -1: the kernel chooses). With discard the kernel discards
 * the whole device now and runs of freed pages later (as swapon --discard does, without a policy).
 * -EBUSY if it already is in use. */
int attach_swapon(const char *dev, int priority, bool discard);

/* swapoff(2). 0 too if dev is not in use as swap. -ENOMEM if there is not enough memory to take the
 * pages back, -EBUSY if another program is in the middle of its own swapoff of dev; -EINTR if a
 * signal came. */
int attach_swapoff(const char *dev);

/* Bytes of dev (as attach_loop() named it) that hold swapped pages, from /proc/swaps; -ENOENT if it
 * is not in use as swap. */
int64_t attach_swap_used(const char *dev);

#endif
