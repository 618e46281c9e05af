/* SPDX-License-Identifier: MIT
 *
 * TOML for C: no TOML library for C is packaged, so toml++ does the work behind this header.
 * Nothing C++ shows through it and no exception passes it.
 */
#ifndef UZD_CONFIG_TOML_H
#define UZD_CONFIG_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum toml_type {
	TOML_TABLE,
	TOML_ARRAY,
	TOML_STRING,
	TOML_INTEGER,
	TOML_FLOAT,
	TOML_BOOLEAN,
	TOML_TIME, /* a date, a time of day, or both */
};

struct toml_item {
	const char *path; /* "compression.level"; a part that TOML can't write bare is in quotes:
			     "\"a b\".c" */
	unsigned line;	  /* of the key, the first is 1 */
	enum toml_type type;
	union {
		const char *string; /* UTF-8; a NUL in it has become a SUB (0x1a), lest it hide what
				       follows */
		int64_t integer;
		bool boolean;
	};
};

struct toml_error {
	unsigned line, column;
	char text[512]; /* may contain what the file contains, control characters and all */
};

/* Parse len bytes of text and call each for every key, tables included, in the order of the text.
 * Tables nested deeper than four are handed out, but not what is in them. item and its strings are
 * valid during the call only. 0; -EINVAL with ret_error if text is no TOML (each is then never
 * called); -ENOMEM, except that toml++ itself aborts if there is no memory for its syntax error. */
int toml_read(const char *text, size_t len, void (*each)(void *arg, const struct toml_item *item),
	      void *arg, struct toml_error *ret_error);

#ifdef __cplusplus
}
#endif
#endif
