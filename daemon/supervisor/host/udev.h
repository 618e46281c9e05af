/* SPDX-License-Identifier: MIT
 *
 * What udev's rule (systemd/59-uzram.rules) knows of a block device of ours: that it is one, and
 * what it is called. systemd then has a unit for /dev/uzram/NAME, so that other units can wait for
 * it.
 *
 * The rule reads a file, which asks no process of ours for anything. Nothing but the rule depends
 * on it, and there may be no udev.
 */
#ifndef UZD_UDEV_H
#define UZD_UDEV_H

/* Say that dev ("/dev/loop3"), which may not be there yet, is the device of that name, and have
 * udev look at it again. 0 or -errno. */
int udev_announce(const char *name, const char *dev);

/* dev is ours no longer. */
void udev_forget(const char *dev);

#endif
