/* SPDX-License-Identifier: MIT
 *
 * Setting an attribute, and the thread that does what takes long.
 *
 * To set a number is done by the front end's worker on the spot. What takes long (compact, flush,
 * stop) is handed to the control thread, so that swap I/O behind it does not wait.
 */
#ifndef UZD_JOBS_H
#define UZD_JOBS_H

#include <stddef.h>

struct attribute;
struct config;
struct control;
struct latency;
struct state;
struct status;
struct uz_store;

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

#endif
