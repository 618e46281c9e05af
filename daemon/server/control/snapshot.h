/* SPDX-License-Identifier: MIT
 *
 * What a reader of a control file sees while it reads piece by piece, as a shell (one byte at a
 * time) and Go's libraries (512 bytes) do: one text, as it was when the file was opened, and a new
 * one whenever it reads from the start again, as in sysfs.
 *
 * The texts are kept in a fixed number of buffers, which the server has from its start. A reader
 * that comes when all are taken has the one that has not been read from for the longest time. The
 * reader that this belonged to gets -ESTALE, unless it reads from the start, or is at the end. So
 * does one whose handle is another server's, which has died since: it never gets the rest of
 * another text.
 */
#ifndef UZD_SNAPSHOT_H
#define UZD_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

struct attribute;
struct control;
struct snapshots;

/* With all its memory. 0 or -ENOMEM. */
int snapshots_new(struct snapshots **ret);

/* Print what a shows, for a reader that has the handle which is returned. No other reader has it,
 * nor has one of another server's ever had it. Never 0. Any thread, as for all that follow. */
uint64_t snapshots_open(struct snapshots *s, struct control *c, const struct attribute *a);

/* Copy at most size bytes from off on of what a shows to buf. Returns how many, 0 at the end; or
 * -ESTALE. */
int snapshots_read(struct snapshots *s, uint64_t handle, struct control *c,
		   const struct attribute *a, uint64_t off, char *buf, size_t size);

/* The reader is gone. handle may be any. */
void snapshots_close(struct snapshots *s, uint64_t handle);

#endif
