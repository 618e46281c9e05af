/* SPDX-License-Identifier: MIT
 *
 * Inside the configuration: what config.c, which reads a file, and keys.c, which knows the
 * keys, share.
 */
#ifndef UZD_CONFIG_KEYS_H
#define UZD_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "config/toml.h"

#define CONFIG_MIB	   (INT64_C(1) << 20)
#define CONFIG_SIZE_MIN	   CONFIG_MIB /* of every size that is not 0 */
#define CONFIG_KEYS_MAX	   32
#define CONFIG_TABLE_ENTRY 8 /* bytes of a device's table a page: uzram/arena.h */

/* What the file said about a key. */
struct config_seen {
	unsigned line; /* 0: nothing */
	bool bad;      /* its value was refused */
};

/* A file that is being read. */
struct config_reader {
	struct config config;
	const char *file;
	const struct machine *machine;

	struct config_seen seen[CONFIG_KEYS_MAX]; /* in the order of config_keys */

	/* The complaint that stands first in the file; UINT_MAX and NULL while there is none. */
	unsigned line;
	char *message;
};

/* How one key is read. set stores an item, which has one of the types, in r->config, or complains
 * and returns false. */
struct config_key {
	const char *path; /* NULL ends the table */
	unsigned types;	  /* bits of 1 << enum toml_type */
	bool (*set)(struct config_reader *r, const struct config_key *k,
		    const struct toml_item *item);
	const char *expected; /* completes "expected ..." */
	size_t field;	      /* where in struct config, and the range of values, for setters */
	int64_t min, max;     /* that serve several keys */
};

extern const struct config_key config_keys[];

/* Whether a device can be called that. */
bool config_names_device(const char *name);

/* Keep "FILE:LINE: KEY: ..." as the message, unless there is one of an earlier line, or of this
 * one. Returns false, for setters to return. */
__attribute__((format(printf, 4, 5))) bool
config_complain(struct config_reader *r, unsigned line, const char *key, const char *format, ...);

#endif
