/* SPDX-License-Identifier: MIT
 *
 * The control files: a table of attributes with zram's names and formats.
 */
#ifndef UZD_ATTRIBUTES_H
#define UZD_ATTRIBUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "config/config.h"
#include "shared/shared.h"
#include "uzram/store.h"

#define CONTROL_TEXT_MAX  16384 /* bytes an attribute may show */
#define CONTROL_VALUE_MAX 64	/* bytes that may be written to one */

struct control;
struct jobs;
struct latency;

struct attribute {
	const char *name;
	mode_t mode;
	/* Print to text, at most size bytes and the final 0. NULL: cannot be read. */
	void (*show)(struct control *c, char *text, size_t size);
	/* value is what was written, without surrounding blanks. 0 or -errno. NULL: cannot be
	 * written. */
	int (*set)(struct control *c, const char *value);
	bool slow; /* set runs on the control thread (jobs.h) */
};

extern const struct attribute control_attributes[];
extern const unsigned control_attribute_count;

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
