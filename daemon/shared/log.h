/* SPDX-License-Identifier: MIT
 *
 * Log lines to standard error. Where the journal reads them ($JOURNAL_STREAM) each has its syslog
 * level in front ("<3>"); a terminal or a file gets the text alone.
 *
 * One line is one write(2), so that lines of two processes do not mix; it never waits for the
 * journal, but is lost if nobody takes it. Never called on the I/O path.
 *
 * A line may wait for memory, though: the kernel allocates what it sends. While nobody serves the
 * device, that memory may have to come from the device. So the supervisor holds its lines back
 * then.
 */
#ifndef UZD_LOG_H
#define UZD_LOG_H

#include <stdbool.h>

/* Look at what standard error is; once, at the start of the program. */
void log_init(void);

/* Keep lines from now on, as far as there is room for them, instead of writing them; or write those
 * that were kept, and later ones at once. */
void log_hold(bool hold);

/* In a new process: the lines that its parent has kept are the parent's to write. */
void log_forget(void);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
