/* SPDX-License-Identifier: MIT
 *
 * The control files: a table of attributes with zram's names and formats, and the thread that does
 * what takes long.
 *
 * Showing an attribute and setting a number are done by the front end's worker on the spot. What
 * takes long (compact, flush, stop) is handed to the control thread, so that swap I/O behind it
 * does not wait.
 */
#ifndef UZD_CONTROL_H
#define UZD_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "config/config.h"
#include "shared/shared.h"
#include "uzram/store.h"

#define CONTROL_TEXT_MAX  16384 /* bytes an attribute may show */
#define CONTROL_VALUE_MAX 64	/* bytes that may be written to one */

struct control;
struct latency;

struct attribute {
	const char *name;
	mode_t mode;
	/* Print to text, at most size bytes and the final 0. NULL: cannot be read. */
	void (*show)(struct control *c, char *text, size_t size);
	/* value is what was written, without surrounding blanks. 0 or -errno. NULL: cannot be
	 * written. */
	int (*set)(struct control *c, const char *value);
	bool slow; /* set runs on the control thread */
};

extern const struct attribute control_attributes[];
extern const unsigned control_attribute_count;

/* Start the control thread. socket: to the supervisor (shared.h). All arguments stay the caller's.
 */
int control_new(const struct config *config, struct uz_store *store, const struct state *state,
		struct status *status, int socket, const struct latency *latency,
		struct control **ret);

/* Finish what has been handed to the control thread, and stop it. */
void control_finish(struct control *c);

/* Set an attribute: done(arg, 0 or -errno) is called once, now or by the control thread. len bytes
 * at value need not end in 0. -EBUSY, through done, if the control thread has too much to do. */
void control_set(struct control *c, const struct attribute *a, const char *value, size_t len,
		 void (*done)(void *arg, int err), void *arg);

/* metrics.c: everything in OpenMetrics text. */
void metrics_show(struct control *c, char *text, size_t size);

struct control {
	const struct config *config;
	struct uz_store *store;
	const struct state *state;
	struct status *status;
	int socket;
	const struct latency *latency;
	struct jobs *jobs;
};

#endif
