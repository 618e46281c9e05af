/* SPDX-License-Identifier: MIT
 *
 * Numbers of users and groups by their names.
 *
 * From the files in /etc, not by getpwnam(): name services load libraries and ask servers, and swap
 * comes before either.
 */
#ifndef UZD_CONFIG_OWNER_H
#define UZD_CONFIG_OWNER_H

#include <stdint.h>

/* -ENOENT if /etc/passwd has no such user. */
int owner_find_user(const char *name, uint32_t *ret);

/* -ENOENT if /etc/group has no such group. */
int owner_find_group(const char *name, uint32_t *ret);

#endif
