/* SPDX-License-Identifier: MIT
 *
 * What an attacker that has taken a server over would try; in the test build only. For the server
 * alone.
 */
#ifndef UZD_ATTEMPT_H
#define UZD_ATTEMPT_H

struct control;

/* Try what that word stands for. Negative with errno: it was refused. */
int attempt(const struct control *c, const char *what);

#endif
