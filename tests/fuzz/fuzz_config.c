/* SPDX-License-Identifier: MIT
 *
 * Arbitrary bytes as a device's TOML file, on machines of several sizes.
 *
 * toml_read() stays within the bytes, and hands out what it finds in the file's order. The outcome
 * of config_load() is a config that is complete, with each value in the range that uzram.toml(5)
 * documents, or an error with a message of one line that names the file and breaks no terminal.
 * Empty lines behind the text change nothing, until the file is too large.
 */
#include "fuzz.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"
#include "config/toml.h"

#define MIB	 (UINT64_C(1) << 20)
#define FILE_MAX 16384

static const struct machine machines[] = {
	{.ram = 2 * MIB, .room = 2 * MIB, .cpus = 1},
	{.ram = (UINT64_C(8) << 30) + 1000, .room = UINT64_C(1) << 30, .cpus = 4},
	{.ram = INT64_MAX, .room = INT64_MAX, .cpus = 1000},
};

static struct {
	int fd;
	char path[32];
} file;

/* --- toml_read() --- */

static void check_item(void *arg, const struct toml_item *item)
{
	unsigned *line = arg;

	REQUIRE(item->line >= *line, "line %u after %u", item->line, *line);
	*line = item->line;
	REQUIRE(*item->path, "a key without a name");
	if (item->type == TOML_STRING)
		REQUIRE(strlen(item->string) <= FILE_MAX, "longer than the file");
}

static void check_toml(const uint8_t *data, size_t len)
{
	unsigned line = 1;
	struct toml_error error;
	int err = toml_read((const char *)data, len, check_item, &line, &error);

	REQUIRE(err == 0 || err == -EINVAL, "%d", err);
	if (err)
		REQUIRE(memchr(error.text, '\0', sizeof(error.text)), "a message without an end");
}

/* --- config_load() --- */

static void check_size(const char *key, uint64_t size, uint64_t min, uint64_t max)
{
	REQUIRE(size >= min && size <= max && size % UZ_PAGE_SIZE == 0, "%s is %" PRIu64, key,
		size);
}

static void check_name(const char *name)
{
	REQUIRE(isalnum((unsigned char)*name) && strlen(name) < 32, "%.32s", name);
	for (; *name; name++)
		REQUIRE(isalnum((unsigned char)*name) || strchr("_.-", *name), "%s", name);
}

static void check_device(const struct config *c, const struct machine *m)
{
	check_name(c->name);
	check_size("size", c->size, MIB, UZ_DISKSIZE_MAX);
	REQUIRE(c->size <= config_size_most(m), "size %" PRIu64, c->size);
	REQUIRE(c->frontend <= FRONTEND_AUTO, "%d", c->frontend);
	REQUIRE(c->block_size == 512 || c->block_size == 4096, "%u", c->block_size);
	REQUIRE(c->workers >= 1 && c->workers <= 64, "%u", c->workers);
	if (c->workers_implied)
		REQUIRE(c->workers == (m->cpus < 2    ? 2
				       : m->cpus < 64 ? m->cpus
						      : 64),
			"%u", c->workers);
	REQUIRE(c->swap_priority >= -1 && c->swap_priority <= 32767, "%d", c->swap_priority);
	REQUIRE(!c->swap || c->loop || c->frontend == FRONTEND_UBLK, "swap on a file");
	REQUIRE(c->disk_user != UINT32_MAX && c->disk_group != UINT32_MAX, "no owner");
	REQUIRE(!(c->disk_mode & ~0666u), "%o", c->disk_mode);
	REQUIRE(!c->swap || (!c->disk_user && !(c->disk_mode & 0006) &&
			     (!c->disk_group || !(c->disk_mode & 0060))),
		"another user's swap: %u %u %o", c->disk_user, c->disk_group, c->disk_mode);
	REQUIRE(c->latency_hold <= LATENCY_HOLD_ALWAYS, "%d", c->latency_hold);
	REQUIRE(c->hang_timeout >= 2000 && c->hang_timeout <= 600000, "%u", c->hang_timeout);
}

static void check_store(const struct config *c, const struct machine *m)
{
	const struct uz_codec_info *info = uz_codec_info(c->algorithm);

	REQUIRE(info, "algorithm %d", c->algorithm);
	REQUIRE(c->level >= info->level_min && c->level <= info->level_max, "%d", c->level);
	if (c->mem_limit)
		check_size("memory.limit", c->mem_limit, MIB, INT64_MAX);
	check_size("memory.reserve", c->reserve, MIB, m->ram);
	REQUIRE(!c->mem_limit || c->reserve <= c->mem_limit, "reserve %" PRIu64 " of %" PRIu64,
		c->reserve, c->mem_limit);
	REQUIRE(c->deferred_pool >= 1 && c->deferred_pool <= 65536, "%u", c->deferred_pool);
	REQUIRE(c->deferred_age >= 1 && c->deferred_age <= 10000, "%u", c->deferred_age);
}

/* C1 controls, which some terminals obey, are two bytes in UTF-8. */
static void check_message(const char *message)
{
	size_t len = strlen(file.path);

	REQUIRE(!strncmp(message, file.path, len) && message[len] == ':', "%s", message);
	for (const unsigned char *c = (const unsigned char *)message; *c; c++)
		REQUIRE(*c >= 0x20 && *c != 0x7f && !(*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0),
			"%02x at %td of \"%s\"", *c, (const char *)c - message, message);
}

/* Returns what config_load() does. */
static int load(size_t len, const struct machine *m, struct config *ret)
{
	struct config untouched;
	char *message = NULL;
	int err;

	memset(ret, 0xa5, sizeof(*ret));
	untouched = *ret;
	err = config_load(file.path, m, ret, &message);
	if (!err) {
		REQUIRE(!message && len <= FILE_MAX, "%zu bytes", len);
		check_device(ret, m);
		check_store(ret, m);
		return 0;
	}
	REQUIRE(err == (len > FILE_MAX ? -EFBIG : -EINVAL), "%d for %zu bytes", err, len);
	REQUIRE(!memcmp(ret, &untouched, sizeof(*ret)), "a config with an error");
	REQUIRE(message, "an error without a message");
	check_message(message);
	free(message);
	return err;
}

/* As few inputs are so long by themselves. */
static void check_longer(size_t len)
{
	char end[FILE_MAX + 1];
	struct config config, longer;
	int err = load(len, &machines[0], &config);

	memset(end, '\n', sizeof(end));
	REQUIRE(pwrite(file.fd, end, FILE_MAX - len, (off_t)len) >= 0, "write");
	REQUIRE(load(FILE_MAX, &machines[0], &longer) == err, "error %d", err);
	REQUIRE(!memcmp(&config, &longer, sizeof(config)), "another config");
	REQUIRE(pwrite(file.fd, end, 1, FILE_MAX) == 1, "write");
	load(FILE_MAX + 1, &machines[0], &longer);
}

static void set_up(void)
{
	file.fd = memfd_create("config", MFD_CLOEXEC);
	REQUIRE(file.fd >= 0, "no memory");
	snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct config config;

	if (!*file.path)
		set_up();
	check_toml(data, len);
	REQUIRE(!ftruncate(file.fd, 0) && pwrite(file.fd, data, len, 0) == (ssize_t)len, "write");
	for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++)
		load(len, &machines[i], &config);
	if (len % 32 == 0 && len <= FILE_MAX)
		check_longer(len);
	return 0;
}
