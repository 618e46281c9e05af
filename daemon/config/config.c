/* SPDX-License-Identifier: MIT
 *
 * From TOML to struct config.
 *
 * Each item of the file is handed to its key's setter, in file order; what concerns two keys at
 * once is checked when all have been read. Reading never stops at an error, since such a check may
 * find one that stands earlier in the file: config_complain() keeps the first.
 */
#include "config/config.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#include "config/keys.h"
#include "config/toml.h"

/* toml++ destroys nested tables by recursion: a key of some 20,000 dots exhausts the stack. */
#define FILE_SIZE_MAX 16384

/* A device's table is all there from the start, locked in memory. With a quarter of the memory it
 * is good for a device of 128 times the memory: no data compresses that well, and a table that took
 * more would leave too little for what it lists, and for everything else. */
#define TABLE_SHARE 4

bool config_complain(struct config_reader *r, unsigned line, const char *key, const char *format,
		     ...)
{
	va_list args;
	size_t len;
	FILE *f;

	if (line >= r->line)
		return false;
	r->line = line;
	free(r->message);
	r->message = NULL;
	f = open_memstream(&r->message, &len);
	if (!f)
		return false;
	fprintf(f, "%s:%u: %s: ", r->file, line, key);
	va_start(args, format);
	vfprintf(f, format, args);
	va_end(args);
	fclose(f);
	return false;
}

/* NULL if there is no such key. */
static const struct config_key *find(const char *path)
{
	const struct config_key *k = config_keys;

	while (k->path && strcmp(k->path, path))
		k++;
	return k->path ? k : NULL;
}

static struct config_seen *seen(struct config_reader *r, const struct config_key *k)
{
	return &r->seen[k - config_keys];
}

/* Levenshtein's, by rows, of a and the first b_len characters of b; SIZE_MAX if those are many. */
static size_t distance(const char *a, const char *b, size_t b_len)
{
	size_t row[32], i, j;

	if (b_len >= sizeof(row) / sizeof(row[0]))
		return SIZE_MAX;
	for (j = 0; j <= b_len; j++)
		row[j] = j;
	for (i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (j = 0; j < b_len; j++) {
			size_t above = row[j + 1];

			row[j + 1] = MIN(MIN(above, row[j]) + 1, diagonal + (a[i] != b[j]));
			diagonal = above;
		}
	}
	return row[b_len];
}

/* Suggests the key or table that is a slip or two away, with or without its table's name. */
static void complain_unknown(struct config_reader *r, const struct toml_item *item)
{
	size_t best = 3; /* exclusive */
	const char *suggestion = NULL;
	int suggestion_len = 0;

	for (const struct config_key *k = config_keys; k->path; k++) {
		size_t table_len = strcspn(k->path, "."), len = strlen(k->path), d;

		if (item->type == TOML_TABLE)
			len = table_len;
		d = distance(item->path, k->path, len);
		if (table_len < len)
			d = MIN(d,
				distance(item->path, k->path + table_len + 1, len - table_len - 1));
		if (d < best) {
			best = d;
			suggestion = k->path;
			suggestion_len = (int)len;
		}
	}
	if (suggestion)
		config_complain(r, item->line, item->path, "unknown key; did you mean %.*s?",
				suggestion_len, suggestion);
	else
		config_complain(r, item->line, item->path,
				"unknown key; uzram.toml(5) lists what there is");
}

static bool is_table(const char *path)
{
	size_t len = strlen(path);

	for (const struct config_key *k = config_keys; k->path; k++)
		if (!strncmp(k->path, path, len) && k->path[len] == '.')
			return true;
	return false;
}

static void read_item(void *arg, const struct toml_item *item)
{
	static const char *const types[] = {
		[TOML_TABLE] = "a table",	  [TOML_ARRAY] = "an array",
		[TOML_STRING] = "a string",	  [TOML_INTEGER] = "an integer",
		[TOML_FLOAT] = "a float",	  [TOML_BOOLEAN] = "a boolean",
		[TOML_TIME] = "a date or a time",
	};
	const struct config_key *k = find(item->path);
	struct config_reader *r = arg;
	bool ok;

	if (k) {
		ok = k->types & 1u << item->type
			     ? k->set(r, k, item)
			     : config_complain(r, item->line, k->path, "is %s; expected %s",
					       types[item->type], k->expected);
		*seen(r, k) = (struct config_seen){item->line, !ok};
	} else if (!is_table(item->path)) {
		complain_unknown(r, item);
	} else if (item->type != TOML_TABLE) {
		config_complain(r, item->line, item->path, "is %s; expected a table",
				types[item->type]);
	}
}

static void check_level(struct config_reader *r)
{
	const struct uz_codec_info *info = uz_codec_info(r->config.algorithm);
	const struct config_key *k = find("compression.level");
	int *level = &r->config.level;

	if (!seen(r, k)->line)
		*level = info->level_default;
	else if ((*level < info->level_min || *level > info->level_max) &&
		 !seen(r, find("compression.algorithm"))->bad)
		config_complain(r, seen(r, k)->line, k->path,
				"%d is out of range for %s; expected an integer from %d to %d",
				*level, info->name, info->level_min, info->level_max);
}

static void check_reserve(struct config_reader *r)
{
	uint64_t ram = r->machine->ram / UZ_PAGE_SIZE * UZ_PAGE_SIZE;
	uint64_t most = r->config.mem_limit ? MIN(r->config.mem_limit, ram) : ram;
	const struct config_key *k = find("memory.reserve");
	uint64_t *reserve = &r->config.reserve;

	if (!seen(r, k)->line)
		*reserve = MIN(*reserve, most);
	else if (*reserve > most && !seen(r, find("memory.limit"))->bad)
		config_complain(r, seen(r, k)->line, k->path,
				"%" PRIu64
				" bytes is more than memory.limit or this machine's memory; "
				"expected at most %" PRIu64,
				*reserve, most);
}

static void check_loop(struct config_reader *r)
{
	const struct config_key *k = find("loop.enabled");

	if (r->config.swap && !r->config.loop && r->config.frontend != FRONTEND_UBLK &&
	    !seen(r, find("swap.enabled"))->bad)
		config_complain(r, seen(r, k)->line, k->path,
				"false is impossible while swap.enabled is true; "
				"expected true, or swap.enabled = false");
}

/* The last part of the file's path without ".toml", cut to what a name can hold and one more. */
static void name_of_file(const struct config_reader *r, char name[CONFIG_NAME_MAX + 2])
{
	const char *slash = strrchr(r->file, '/'), *base = slash ? slash + 1 : r->file;
	size_t len = strlen(base);

	if (len > 5 && !strcmp(base + len - 5, ".toml"))
		len -= 5;
	snprintf(name, CONFIG_NAME_MAX + 2, "%.*s", (int)len, base);
}

/* The instance of the unit is called like the file, and asks for the device by that name. */
static void check_name(struct config_reader *r)
{
	const struct config_key *k = find("name");
	bool of_unit = !strncmp(r->file, CONFIG_DIR "/", strlen(CONFIG_DIR "/"));
	char name[CONFIG_NAME_MAX + 2];

	name_of_file(r, name);
	if (!seen(r, k)->line && config_names_device(name))
		memcpy(r->config.name, name, strlen(name) + 1);
	else if (!seen(r, k)->line)
		config_complain(r, 1, k->path,
				"\"%s\", which is what the file is called, can't name a device; "
				"expected a name = \"...\" of %s",
				name, k->expected);
	else if (of_unit && !seen(r, k)->bad && strcmp(r->config.name, name) != 0)
		config_complain(
			r, seen(r, k)->line, k->path,
			"\"%s\" is not the name of the file, by which systemd knows the device; "
			"expected \"%s\", or no name",
			r->config.name, name);
}

/* Swap has the pages of all users. */
static void check_disk(struct config_reader *r)
{
	const struct config *c = &r->config;
	const struct {
		const char *key;
		bool other; /* than root may open the file */
	} keys[] = {
		{"disk.user", c->disk_user != 0},
		{"disk.group", c->disk_group != 0 && c->disk_mode & 0060},
		{"disk.mode", c->disk_mode & 0066},
	};

	if (!c->swap || seen(r, find("swap.enabled"))->bad)
		return;
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (keys[i].other)
			config_complain(r, seen(r, find(keys[i].key))->line, keys[i].key,
					"would let others than root read and write what is swapped "
					"out; expected swap.enabled = false, or none of disk.user, "
					"disk.group and disk.mode");
	}
}

uint64_t config_size_most(const struct machine *machine)
{
	uint64_t pages = machine->room / TABLE_SHARE / CONFIG_TABLE_ENTRY;

	return MIN(pages, UZ_DISKSIZE_MAX / UZ_PAGE_SIZE) * UZ_PAGE_SIZE;
}

/* Two at least: a write that has to wait for memory must not keep pages from being read. */
static unsigned default_workers(const struct machine *machine)
{
	unsigned n = machine->cpus < 2 ? 2 : machine->cpus;

	return MIN(n, CONFIG_WORKERS_MAX);
}

void config_defaults(struct config *c, const struct machine *machine)
{
	uint64_t half = machine->ram / 2 / UZ_PAGE_SIZE * UZ_PAGE_SIZE;

	*c = (struct config){
		.size = MIN(half, config_size_most(machine)),
		.frontend = FRONTEND_AUTO,
		.block_size = UZ_PAGE_SIZE,
		.workers = default_workers(machine),
		.size_implied = true,
		.workers_implied = true,
		.algorithm = UZ_CODEC_ZSTD,
		.level = uz_codec_info(UZ_CODEC_ZSTD)->level_default,
		.mem_limit = half,
		.reserve = MIN(16 * CONFIG_MIB, half),
		.deferred = true,
		.deferred_pool = 64,
		.deferred_age = 10,
		.swap = true,
		.swap_priority = 100,
		.swap_discard = true,
		.swap_off_for_sleep = true,
		.watermark_boost_off = true,
		.loop = true,
		.disk_mode = 0600,
		.latency_hold = LATENCY_HOLD_AUTO,
		.hang_timeout = 10000,
	};
}

/* Bytes read, or -errno. */
static int read_file(const char *path, char *text, size_t max)
{
	FILE *f = fopen(path, "re");
	size_t len;
	int ret;

	if (!f)
		return -errno;
	len = fread(text, 1, max, f);
	ret = ferror(f) ? -errno : (int)len;
	fclose(f);
	return ret;
}

/* The length of the control character at text, 0 if there is none. Those from U+0080 to U+009F take
 * two bytes in UTF-8; some terminals obey them. */
static size_t control_length(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;

	if (iscntrl(c[0]))
		return 1;
	return c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f ? 2 : 0;
}

/* What is quoted from the file must not break the line, or worse, the terminal. */
static void make_printable(char *message)
{
	for (; *message; message++)
		memset(message, '?', control_length(message));
}

/* The work of config_load(): fills config, or message. */
static int load(struct config_reader *r)
{
	char text[FILE_SIZE_MAX + 1];
	struct toml_error error;
	int len, err;

	len = read_file(r->file, text, sizeof(text));
	if (len > FILE_SIZE_MAX)
		len = -EFBIG;
	if (len < 0) {
		if (asprintf(&r->message, "%s: %s", r->file, strerror(-len)) < 0)
			r->message = NULL;
		return len;
	}
	err = toml_read(text, (size_t)len, read_item, r, &error);
	if (err == -EINVAL && asprintf(&r->message, "%s:%u:%u: %s", r->file, error.line,
				       error.column, error.text) < 0)
		r->message = NULL;
	if (err)
		return err;

	check_name(r);
	check_level(r);
	check_reserve(r);
	check_loop(r);
	check_disk(r);
	return r->line == UINT_MAX ? 0 : -EINVAL;
}

int config_load(const char *path, const struct machine *machine, struct config *ret,
		char **ret_message)
{
	struct config_reader r = {.file = path, .machine = machine, .line = UINT_MAX};
	int err;

	config_defaults(&r.config, machine);
	err = load(&r);
	if (err) {
		if (r.message)
			make_printable(r.message);
		*ret_message = r.message;
		return err;
	}
	r.config.size_implied = !seen(&r, find("size"))->line;
	r.config.workers_implied = !seen(&r, find("workers"))->line || !r.config.workers;
	if (!r.config.workers)
		r.config.workers = default_workers(machine);
	*ret = r.config;
	return 0;
}
