/* SPDX-License-Identifier: MIT
 *
 * The control files: a table of attributes with zram's names and formats.
 */
#ifndef UZD_ATTRIBUTES_H
#define UZD_ATTRIBUTES_H

#include <stddef.h>
#include <sys/types.h>

#include "config/config.h"
#include "server/control/jobs.h"
#include "shared/shared.h"
#include "uzram/store.h"

#define CONTROL_TEXT_MAX  16384 /* bytes an attribute may show */
#define CONTROL_VALUE_MAX 64	/* bytes that may be written to one */

struct latency;
struct snapshots;

/* What attributes show and set. */
struct control {
	const struct config *config;
	struct uz_store *store;
	const struct state *state;
	struct status *status;
	int socket;
	const struct latency *latency;
	struct jobs *jobs;
	struct snapshots *snapshots;
};

struct attribute {
	const char *name;
	/* The inode's number. The kernel keeps it over an upgrade, and so an open file means what
	 * it did: another version has the same number for the same name, and for no other. */
	unsigned number;
	mode_t mode;
	/* Print to text, at most size bytes and the final 0. NULL: cannot be read. */
	void (*show)(struct control *c, char *text, size_t size);
	/* value is what was written, without surrounding blanks. 0 or -errno. What takes long is
	 * left to the control thread: a function stored in *later. NULL: cannot be written. */
	int (*set)(struct control *c, const char *value, int (**later)(struct control *c));
};

extern const struct attribute control_attributes[];
extern const unsigned control_attribute_count;

/* With its memory and the control thread. socket: to the supervisor (shared.h). All arguments stay
 * the caller's. 0 or -errno. */
int control_new(const struct config *config, struct uz_store *store, const struct state *state,
		struct status *status, int socket, const struct latency *latency,
		struct control **ret);

/* Finish what has been handed to the control thread, and stop it. */
void control_finish(struct control *c);

/* Set an attribute to what len bytes at text say, which need not end in 0. w->done is called with
 * the result, now or by the control thread; with -EBUSY if that has too much to do. */
void control_set(struct control *c, const struct attribute *a, const char *text, size_t len,
		 const struct waiter *w);

/* metrics.c: everything in OpenMetrics text. */
void metrics_show(struct control *c, char *text, size_t size);

#endif
