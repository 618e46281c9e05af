/* SPDX-License-Identifier: MIT
 *
 * Messages to the service manager, as sd_notify(3) sends them, but never waiting.
 *
 * sd_notify() waits when systemd's queue is full. systemd may be waiting for one of its own pages,
 * which is on our device, whose server has died: a supervisor that waited for systemd then would
 * wait for ever. So a message that can't be sent at once isn't.
 */
#ifndef UZD_NOTIFY_H
#define UZD_NOTIFY_H

#include <stdbool.h>

/* False: it was not sent; try again later, if it matters. True also where no manager listens. */
bool notify(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Have the manager keep a duplicate of fd under name: it hands all of them to the service's next
 * process if this one dies. */
bool notify_store_fd(const char *name, int fd);
bool notify_forget_fd(const char *name);

#endif
