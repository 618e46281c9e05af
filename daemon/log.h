/* SPDX-License-Identifier: MIT
 *
 * Log lines to standard error, each with the syslog level in front ("<3>"), as the journal reads
 * them.
 *
 * One line is one write(2), so that lines of two processes do not mix; it never waits, but is lost
 * if nobody takes it. Never called on the I/O path.
 */
#ifndef UZD_LOG_H
#define UZD_LOG_H

/* Look at what standard error is; once, at the start of the program. */
void log_init(void);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
