/* SPDX-License-Identifier: MIT
 *
 * What else the machine does with swap and FUSE that works against a device of ours.
 */
#ifndef UZD_NEIGHBOURS_H
#define UZD_NEIGHBOURS_H

#include <stdbool.h>

#include "config/config.h"

/* Log a warning for each, with what to do about it: when a device starts, before it is in use.
 * fuse: its requests come through FUSE. */
void neighbours_warn(const struct config *config, bool fuse);

#endif
