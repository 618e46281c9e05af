/* SPDX-License-Identifier: MIT
 *
 * The keys of a configuration: a table with one row for each, and the setters it names.
 */
#include "config/keys.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "config/owner.h"
#include "config/size_expr.h"

static bool refuse(struct config_reader *r, const struct config_key *k,
		   const struct toml_item *item, const char *what)
{
	if (item->type == TOML_STRING)
		return config_complain(r, item->line, k->path, "\"%s\" %s; expected %s",
				       item->string, what, k->expected);
	return config_complain(r, item->line, k->path, "%" PRId64 " %s; expected %s", item->integer,
			       what, k->expected);
}

static void *field(struct config_reader *r, const struct config_key *k)
{
	return (char *)&r->config + k->field;
}

static bool set_bool(struct config_reader *r, const struct config_key *k,
		     const struct toml_item *item)
{
	*(bool *)field(r, k) = item->boolean;
	return true;
}

/* For unsigned fields too: no range goes beyond INT_MAX. */
static bool set_int(struct config_reader *r, const struct config_key *k,
		    const struct toml_item *item)
{
	if (item->integer < k->min || item->integer > k->max)
		return refuse(r, k, item, "is out of range");
	*(int *)field(r, k) = (int)item->integer;
	return true;
}

static bool eval_size(struct config_reader *r, const struct config_key *k,
		      const struct toml_item *item, uint64_t *ret, bool *ret_over_ram)
{
	struct size_error error;

	if (item->type == TOML_STRING) {
		if (!size_expr_eval(item->string, r->machine->ram, ret, ret_over_ram, &error))
			return true;
		return config_complain(r, item->line, k->path, "\"%s\", column %u: %s; expected %s",
				       item->string, error.column, error.what, k->expected);
	}
	if (item->integer < 0)
		return refuse(r, k, item, "is negative");
	*ret = (uint64_t)item->integer;
	*ret_over_ram = false;
	return true;
}

/* A fraction of the memory is cut to whole pages. A size that was written out must be whole pages:
 * who asks for one should not get another. */
static bool set_size(struct config_reader *r, const struct config_key *k,
		     const struct toml_item *item)
{
	const char *wrong = NULL;
	uint64_t bytes = 0;
	bool over_ram = false;

	if (!eval_size(r, k, item, &bytes, &over_ram))
		return false;
	if (over_ram)
		bytes -= bytes % UZ_PAGE_SIZE;
	if (bytes % UZ_PAGE_SIZE)
		wrong = "is no multiple of 4096";
	else if (bytes < (uint64_t)k->min || bytes > (uint64_t)k->max ||
		 (bytes && bytes < CONFIG_SIZE_MIN))
		wrong = "is out of range";
	if (wrong)
		return config_complain(r, item->line, k->path, "%" PRIu64 " bytes %s; expected %s",
				       bytes, wrong, k->expected);
	*(uint64_t *)field(r, k) = bytes;
	return true;
}

static bool set_device_size(struct config_reader *r, const struct config_key *k,
			    const struct toml_item *item)
{
	const struct machine *m = r->machine;
	uint64_t most = config_size_most(m);

	if (!set_size(r, k, item))
		return false;
	if (r->config.size <= most)
		return true;
	return config_complain(r, item->line, k->path,
			       "%" PRIu64 " bytes take a table of %" PRIu64
			       " MiB, locked in memory; expected at most %" PRIu64
			       "M, for which it is a quarter of the %" PRIu64 " MiB of %s",
			       r->config.size,
			       (r->config.size / UZ_PAGE_SIZE * CONFIG_TABLE_ENTRY) >> 20,
			       most >> 20, m->room >> 20,
			       m->room < m->ram ? "the memory cgroup" : "this machine");
}

static bool ends_in_lock(const char *name)
{
	size_t len = strlen(name);

	return len >= 5 && !strcmp(name + len - 5, ".lock");
}

bool config_names_device(const char *name)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	size_t len = strlen(name);

	return isalnum((unsigned char)name[0]) && len <= CONFIG_NAME_MAX &&
	       strspn(name, allowed) == len && !ends_in_lock(name);
}

static bool set_name(struct config_reader *r, const struct config_key *k,
		     const struct toml_item *item)
{
	if (ends_in_lock(item->string))
		return refuse(r, k, item, "is the name of another device's lock file");
	if (!config_names_device(item->string))
		return refuse(r, k, item, "can't name a device");
	memcpy(r->config.name, item->string, strlen(item->string) + 1);
	return true;
}

/* The word of names, which NULL ends, that item is; -1: it is none of them. */
static int find_word(const char *const *names, const struct toml_item *item)
{
	for (int i = 0; names[i]; i++)
		if (!strcmp(item->string, names[i]))
			return i;
	return -1;
}

static bool set_frontend(struct config_reader *r, const struct config_key *k,
			 const struct toml_item *item)
{
	static const char *const names[] = {
		[FRONTEND_FUSE] = "fuse", [FRONTEND_UBLK] = "ublk", [FRONTEND_AUTO] = "auto", NULL};
	int i = find_word(names, item);

	if (i < 0)
		return refuse(r, k, item, "is unknown");
	r->config.frontend = (enum frontend)i;
	return true;
}

static bool set_block_size(struct config_reader *r, const struct config_key *k,
			   const struct toml_item *item)
{
	if (item->integer != 512 && item->integer != UZ_PAGE_SIZE)
		return refuse(r, k, item, "is impossible");
	r->config.block_size = (unsigned)item->integer;
	return true;
}

static bool set_algorithm(struct config_reader *r, const struct config_key *k,
			  const struct toml_item *item)
{
	int codec = uz_codec_by_name(item->string);

	if (codec < 0)
		return refuse(r, k, item, "is unknown");
	r->config.algorithm = (enum uz_codec)codec;
	return true;
}

static bool set_latency_hold(struct config_reader *r, const struct config_key *k,
			     const struct toml_item *item)
{
	static const char *const names[] = {[LATENCY_HOLD_AUTO] = "auto",
					    [LATENCY_HOLD_NEVER] = "never",
					    [LATENCY_HOLD_ALWAYS] = "always",
					    NULL};
	int i = find_word(names, item);

	if (i < 0)
		return refuse(r, k, item, "is unknown");
	r->config.latency_hold = (enum latency_hold)i;
	return true;
}

static bool set_watermark_boost(struct config_reader *r, const struct config_key *k,
				const struct toml_item *item)
{
	static const char *const names[] = {"keep", "off", NULL};
	int i = find_word(names, item);

	if (i < 0)
		return refuse(r, k, item, "is unknown");
	r->config.watermark_boost_off = i;
	return true;
}

/* The milliseconds of "10ms" or "1s", -1 for anything else; the largest number if there are too
 * many. */
static int64_t milliseconds(const char *text)
{
	int64_t value;
	char *unit;

	if (!isdigit((unsigned char)*text))
		return -1;
	value = strtoll(text, &unit, 10);
	if (!strcmp(unit, "ms"))
		return value;
	if (!strcmp(unit, "s"))
		return value <= INT64_MAX / 1000 ? value * 1000 : INT64_MAX;
	return -1;
}

static bool set_duration(struct config_reader *r, const struct config_key *k,
			 const struct toml_item *item)
{
	int64_t value = item->type == TOML_STRING ? milliseconds(item->string) : item->integer;

	if (value < 0)
		return refuse(r, k, item, "is no duration");
	if (value < k->min || value > k->max)
		return refuse(r, k, item, "is out of range");
	*(unsigned *)field(r, k) = (unsigned)value;
	return true;
}

static bool set_owner(struct config_reader *r, const struct config_key *k,
		      const struct toml_item *item, int (*find)(const char *name, uint32_t *ret))
{
	if (item->type == TOML_STRING)
		return !find(item->string, field(r, k)) || refuse(r, k, item, "is unknown");
	if (item->integer < 0 || item->integer >= UINT32_MAX) /* -1 stands for none */
		return refuse(r, k, item, "is out of range");
	*(uint32_t *)field(r, k) = (uint32_t)item->integer;
	return true;
}

static bool set_user(struct config_reader *r, const struct config_key *k,
		     const struct toml_item *item)
{
	return set_owner(r, k, item, owner_find_user);
}

static bool set_group(struct config_reader *r, const struct config_key *k,
		      const struct toml_item *item)
{
	return set_owner(r, k, item, owner_find_group);
}

/* As chmod(1) takes it. No integer, since 660 is another number than 0o660. */
static bool set_mode(struct config_reader *r, const struct config_key *k,
		     const struct toml_item *item)
{
	size_t digits = strspn(item->string, "01234567");
	unsigned long mode = strtoul(item->string, NULL, 8);

	if (!digits || item->string[digits] || mode & ~0666ul)
		return refuse(r, k, item, "is impossible");
	*(uint32_t *)field(r, k) = (uint32_t)mode;
	return true;
}

#define BOOLEAN	 (1u << TOML_BOOLEAN)
#define INTEGER	 (1u << TOML_INTEGER)
#define STRING	 (1u << TOML_STRING)
#define FIELD(f) offsetof(struct config, f)

/* clang-format off */
const struct config_key config_keys[] = {
	{"name", STRING, set_name,
	 "1 to 31 letters, digits, \"_\", \".\" and \"-\", first a letter or a digit"},
	{"size", INTEGER | STRING, set_device_size,
	 "a multiple of 4096 from 1M to 4T, such as \"8G\" or \"ram / 2\"",
	 FIELD(size), CONFIG_SIZE_MIN, UZ_DISKSIZE_MAX},
	{"frontend", STRING, set_frontend,
	 "\"fuse\", \"ublk\" or \"auto\""},
	{"block_size", INTEGER, set_block_size,
	 "4096, or 512"},
	{"workers", INTEGER, set_int,
	 "an integer from 1 to 64, or 0 for one per CPU",
	 FIELD(workers), 0, CONFIG_WORKERS_MAX},

	{"compression.algorithm", STRING, set_algorithm,
	 "\"lz4\" or \"zstd\""},
	{"compression.level", INTEGER, set_int,
	 "an integer in the algorithm's range",
	 FIELD(level), INT_MIN, INT_MAX},

	{"memory.limit", INTEGER | STRING, set_size,
	 "a multiple of 4096, at least 1M, such as \"8G\" or \"ram / 2\", or 0 for no limit",
	 FIELD(mem_limit), 0, INT64_MAX},
	{"memory.reserve", INTEGER | STRING, set_size,
	 "a multiple of 4096, at least 1M, such as \"16M\"",
	 FIELD(reserve), CONFIG_SIZE_MIN, INT64_MAX},

	{"deferred_free.enabled", BOOLEAN, set_bool,
	 "true or false",
	 FIELD(deferred)},
	{"deferred_free.pool", INTEGER, set_int,
	 "an integer from 1 to 65536",
	 FIELD(deferred_pool), 1, 65536},
	{"deferred_free.max_age", INTEGER | STRING, set_duration,
	 "\"1ms\" to \"10s\", or an integer of milliseconds",
	 FIELD(deferred_age), 1, 10000},

	{"swap.enabled", BOOLEAN, set_bool,
	 "true or false",
	 FIELD(swap)},
	{"swap.priority", INTEGER, set_int,
	 "an integer from 0 to 32767, or -1 to let the kernel choose",
	 FIELD(swap_priority), -1, 32767},
	{"swap.discard", BOOLEAN, set_bool,
	 "true or false",
	 FIELD(swap_discard)},
	{"swap.off_for_sleep", BOOLEAN, set_bool,
	 "true or false",
	 FIELD(swap_off_for_sleep)},
	{"swap.watermark_boost", STRING, set_watermark_boost,
	 "\"off\" or \"keep\""},

	{"loop.enabled", BOOLEAN, set_bool,
	 "true or false",
	 FIELD(loop)},

	{"disk.user", INTEGER | STRING, set_user,
	 "the name of a user in /etc/passwd, or a user's number",
	 FIELD(disk_user)},
	{"disk.group", INTEGER | STRING, set_group,
	 "the name of a group in /etc/group, or a group's number",
	 FIELD(disk_group)},
	{"disk.mode", STRING, set_mode,
	 "permissions to read and write, in octal digits, such as \"0660\"",
	 FIELD(disk_mode)},

	{"latency.hold", STRING, set_latency_hold,
	 "\"auto\", \"never\" or \"always\""},

	{"server.hang_timeout", INTEGER | STRING, set_duration,
	 "\"2s\" to \"600s\", or an integer of milliseconds",
	 FIELD(hang_timeout), 2000, 600000},

	{NULL},
};
/* clang-format on */

_Static_assert(sizeof(config_keys) / sizeof(config_keys[0]) <= CONFIG_KEYS_MAX, "a row too many");
