/* SPDX-License-Identifier: MIT */
#include "shared/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static bool is_pipe, is_journal;

/* Lines that are held back, each with its length in front. Touched by process_lock_memory(), as all
 * of the program is. */
static struct {
	bool hold;
	size_t len;
	char text[4096];
} held;

/* The service manager passes on the device and inode numbers of the stream that the journal reads.
 * A process inherits the variable also when its own standard error leads elsewhere. */
static bool is_journal_stream(const struct stat *st)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && dev == st->st_dev &&
	       ino == st->st_ino;
}

void log_init(void)
{
	struct stat st;

	if (fstat(STDERR_FILENO, &st) < 0)
		return;
	is_pipe = S_ISFIFO(st.st_mode);
	is_journal = is_journal_stream(&st);
}

/* Never waits: the journal may be waiting for a page of ours while there is no server, and the one
 * who would start it is us. A line that there is no room for is lost. */
static void write_line(const char *line, size_t len)
{
	struct pollfd fd = {STDERR_FILENO, POLLOUT, 0};

	if (send(STDERR_FILENO, line, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != ENOTSOCK)
		return;
	/* A pipe that can be written to takes PIPE_BUF bytes; files and the like always can. */
	if (is_pipe && poll(&fd, 1, 0) <= 0)
		return;
	if (write(STDERR_FILENO, line, len) < 0)
		return; /* nobody to tell */
}

/* A line that there is no room for is lost. */
static void keep_line(const char *line, uint16_t len)
{
	if (held.len + sizeof(len) + len > sizeof(held.text))
		return;
	memcpy(held.text + held.len, &len, sizeof(len));
	memcpy(held.text + held.len + sizeof(len), line, len);
	held.len += sizeof(len) + len;
}

void log_hold(bool hold)
{
	held.hold = hold;
	if (hold)
		return;
	for (size_t at = 0; at < held.len;) {
		uint16_t len;

		memcpy(&len, held.text + at, sizeof(len));
		write_line(held.text + at + sizeof(len), len);
		at += sizeof(len) + len;
	}
	held.len = 0;
}

void log_forget(void)
{
	held.hold = false;
	held.len = 0;
}

static void log_line(const char *level, const char *fmt, va_list args)
{
	char line[1024];
	int n = snprintf(line, sizeof(line), "%s", is_journal ? level : "");

	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, args);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	if (held.hold)
		keep_line(line, (uint16_t)n);
	else
		write_line(line, (size_t)n);
}

void log_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_line(SD_ERR, fmt, args);
	va_end(args);
}

void log_warning(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_line(SD_WARNING, fmt, args);
	va_end(args);
}

void log_notice(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_line(SD_NOTICE, fmt, args);
	va_end(args);
}
