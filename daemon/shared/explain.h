/* SPDX-License-Identifier: MIT
 *
 * What an error's own text does not say: which setting, or which device file, stands behind it. For
 * log lines; each function makes system calls to find out.
 */
#ifndef UZD_EXPLAIN_H
#define UZD_EXPLAIN_H

#define EXPLAIN_MAX 160

/* Whether this process can have io_uring: 0 or -errno. */
int explain_io_uring(void);

/* Remember what explain_error() looks up in /proc. A process that shuts itself off from it calls
 * this before; for others explain_error() does. */
void explain_prepare(void);

/* Why something has failed with err, a negative errno. Where that is because io_uring can't be had
 * the text says so, and names the sysctl. Returns text. */
const char *explain_error(int err, char text[EXPLAIN_MAX]);

/* The same where it may be for want of a device file, which a kernel module brings. */
const char *explain_device(const char *node, const char *module, int err, char text[EXPLAIN_MAX]);

#endif
