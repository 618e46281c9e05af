/* SPDX-License-Identifier: MIT
 *
 * The configuration: files that load, and files that don't, each with its exact message. The
 * argument is the root of the source tree, where the files are. A bad one is NN-NAME.toml in
 * tests/unit/config/bad/, and beside it, in NN-NAME.expect, is the line that must be said of it.
 * What stands there in the syntax-* files is the text of toml++ 3.3.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/keys.h"

#define MIB  (UINT64_C(1) << 20)
#define GIB  (MIB << 10)
#define TIB  (GIB << 10)
#define RAM  (8 * GIB + 1000) /* no multiple of a page */
#define CPUS 4

static const struct machine machine = {RAM, RAM, CPUS};

/* Where files to load are written to. */
static char scratch[] = "/tmp/test_config.XXXXXX";

static int make_dir(void **state)
{
	return mkdtemp(scratch) ? 0 : -1;
}

static int remove_dir(void **state)
{
	return rmdir(scratch);
}

/* What config_load() makes of text in a file of that name, on machine m; the message is NULL if it
 * loads. */
static int load_file(const char *name, const struct machine *m, const char *text,
		     struct config *ret, char **ret_message)
{
	char path[300];
	FILE *f;
	int err;

	snprintf(path, sizeof(path), "%s/%s", scratch, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
	*ret_message = NULL;
	err = config_load(path, m, ret, ret_message);
	unlink(path);
	return err;
}

static int load_text_on(const struct machine *m, const char *text, struct config *ret,
			char **ret_message)
{
	return load_file("swap0.toml", m, text, ret, ret_message);
}

static int load_text(const char *text, struct config *ret, char **ret_message)
{
	return load_text_on(&machine, text, ret, ret_message);
}

static void load_good(const char *text, struct config *ret)
{
	char *message;

	if (load_text(text, ret, &message))
		fail_msg("%s", message);
}

static void check_config(const struct config *a, const struct config *b)
{
	assert_string_equal(a->name, b->name);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->frontend, b->frontend);
	assert_int_equal(a->block_size, b->block_size);
	assert_int_equal(a->workers, b->workers);
	assert_int_equal(a->algorithm, b->algorithm);
	assert_int_equal(a->level, b->level);
	assert_int_equal(a->mem_limit, b->mem_limit);
	assert_int_equal(a->reserve, b->reserve);
	assert_int_equal(a->deferred, b->deferred);
	assert_int_equal(a->deferred_pool, b->deferred_pool);
	assert_int_equal(a->deferred_age, b->deferred_age);
	assert_int_equal(a->swap, b->swap);
	assert_int_equal(a->swap_priority, b->swap_priority);
	assert_int_equal(a->swap_discard, b->swap_discard);
	assert_int_equal(a->swap_off_for_sleep, b->swap_off_for_sleep);
	assert_int_equal(a->watermark_boost_off, b->watermark_boost_off);
	assert_int_equal(a->loop, b->loop);
	assert_int_equal(a->disk_user, b->disk_user);
	assert_int_equal(a->disk_group, b->disk_group);
	assert_int_equal(a->disk_mode, b->disk_mode);
	assert_int_equal(a->latency_hold, b->latency_hold);
	assert_int_equal(a->hang_timeout, b->hang_timeout);
}

static const struct config defaults = {
	.name = "swap0",
	.size = 4 * GIB,
	.frontend = FRONTEND_AUTO,
	.block_size = 4096,
	.workers = CPUS,
	.algorithm = UZ_CODEC_ZSTD,
	.level = -1,
	.mem_limit = 4 * GIB,
	.reserve = 16 * MIB,
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

static void defaults_of_an_empty_file(void **state)
{
	struct config c;

	config_defaults(&c, &machine);
	assert_string_equal(c.name, "");
	strcpy(c.name, defaults.name);
	check_config(&c, &defaults);
	load_good("", &c);
	check_config(&c, &defaults);
}

static void defaults_of_extreme_machines(void **state)
{
	struct config c;

	config_defaults(&c, &(struct machine){64 * TIB, 64 * TIB, 1000});
	assert_int_equal(c.size, 4 * TIB);
	assert_int_equal(c.mem_limit, 32 * TIB);
	assert_int_equal(c.workers, 64);

	config_defaults(&c, &(struct machine){64 * TIB, GIB, 4});
	assert_int_equal(c.size, 128 * GIB); /* a table of a quarter of the cgroup's memory */

	config_defaults(&c, &(struct machine){2 * MIB, 2 * MIB, 1});
	assert_int_equal(c.size, MIB);
	assert_int_equal(c.mem_limit, MIB);
	assert_int_equal(c.reserve, MIB);
	assert_int_equal(c.workers, 2);
}

static const char all_keys[] = "name = 'Vm.disk_0-x'\n"
			       "size = 'ram / 3'\n"
			       "frontend = 'ublk'\n"
			       "block_size = 512\n"
			       "workers = 64\n"
			       "[compression]\n"
			       "level = -7\n"
			       "algorithm = 'zstd'\n"
			       "[memory]\n"
			       "reserve = '1MiB'\n"
			       "limit = 1048576\n"
			       "[deferred_free]\n"
			       "enabled = false\n"
			       "pool = 65536\n"
			       "max_age = '10s'\n"
			       "[swap]\n"
			       "enabled = false\n"
			       "priority = -1\n"
			       "discard = false\n"
			       "off_for_sleep = false\n"
			       "watermark_boost = 'keep'\n"
			       "[loop]\n"
			       "enabled = false\n"
			       "[disk]\n"
			       "user = 'nobody'\n"
			       "group = 4294967294\n"
			       "mode = '640'\n"
			       "[latency]\n"
			       "hold = 'always'\n"
			       "[server]\n"
			       "hang_timeout = '600s'\n";

static void every_key(void **state)
{
	static const struct config expected = {
		.name = "Vm.disk_0-x",
		.size = RAM / 3 / 4096 * 4096,
		.frontend = FRONTEND_UBLK,
		.block_size = 512,
		.workers = 64,
		.algorithm = UZ_CODEC_ZSTD,
		.level = -7,
		.mem_limit = MIB,
		.reserve = MIB,
		.deferred_pool = 65536,
		.deferred_age = 10000,
		.swap_priority = -1,
		.disk_user = 65534,
		.disk_group = 4294967294,
		.disk_mode = 0640,
		.latency_hold = LATENCY_HOLD_ALWAYS,
		.hang_timeout = 600000,
	};
	struct config c;

	load_good(all_keys, &c);
	check_config(&c, &expected);
}

static void values_at_the_edge(void **state)
{
	struct config c;

	load_good("name = 'a123456789b123456789c123456789d'\nworkers = 0\nsize = '1T'", &c);
	assert_int_equal(strlen(c.name), 31);
	assert_int_equal(c.workers, CPUS);
	assert_int_equal(c.size, TIB);
	load_good("name = '0'\nworkers = 1\nsize = 1048576\nswap.priority = 32767", &c);
	assert_int_equal(c.workers, 1);
	assert_int_equal(c.size, MIB);
	assert_int_equal(c.swap_priority, 32767);
	load_good("deferred_free = {pool = 1, max_age = 1}", &c);
	assert_int_equal(c.deferred_pool, 1);
	assert_int_equal(c.deferred_age, 1);
	load_good("deferred_free.max_age = '25ms'", &c);
	assert_int_equal(c.deferred_age, 25);
	load_good("latency.hold = 'never'", &c);
	assert_int_equal(c.latency_hold, LATENCY_HOLD_NEVER);
	load_good("latency = {hold = \"auto\"}", &c);
	assert_int_equal(c.latency_hold, LATENCY_HOLD_AUTO);
	load_good("server.hang_timeout = 2000", &c);
	assert_int_equal(c.hang_timeout, 2000);
	load_good("swap.enabled = false\ndisk = {user = 0, group = 'root', mode = '0666'}", &c);
	assert_int_equal(c.disk_mode, 0666);
	load_good("disk = {user = 'root', group = 4, mode = '0000'}", &c); /* of swap, too */
	assert_int_equal(c.disk_group, 4);
	assert_int_equal(c.disk_mode, 0);
}

static void names_of_files(void **state)
{
	static const struct {
		const char *file, *text, *name, *said;
	} cases[] = {
		{"big.toml", "", "big", NULL},
		{"v.m-0", "", "v.m-0", NULL},
		{".toml", "name = 'x'", "x", NULL},
		{"other.toml", "name = 'x'", "x", NULL},
		{"my swap.toml", "size = '1G'", NULL,
		 "my swap.toml:1: name: \"my swap\", which is what the file is called, can't name "
		 "a "
		 "device; expected a name = \"...\" of 1 to 31 letters"},
		{"a.lock.toml", "", NULL, "\"a.lock\", which is what the file is called, can't"},
		{"a123456789b123456789c123456789d1.toml", "", NULL, "\"a123456789b123456789c1234"},
		{".toml", "", NULL, ".toml:1: name: \".toml\", which is what"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *message;
		struct config c;
		int err = load_file(cases[i].file, &machine, cases[i].text, &c, &message);

		assert_int_equal(err, cases[i].name ? 0 : -EINVAL);
		if (cases[i].name)
			assert_string_equal(c.name, cases[i].name);
		else if (!strstr(message, cases[i].said))
			fail_msg("%s", message);
		free(message);
	}
}

static void limit_and_reserve(void **state)
{
	struct config c;

	load_good("memory.limit = 0", &c);
	assert_int_equal(c.mem_limit, 0);
	assert_int_equal(c.reserve, 16 * MIB);
	load_good("memory.limit = '8M'", &c);
	assert_int_equal(c.mem_limit, 8 * MIB);
	assert_int_equal(c.reserve, 8 * MIB);
	load_good("memory = {reserve = '32M', limit = '32M'}", &c);
	assert_int_equal(c.reserve, 32 * MIB);
	load_good("memory = {reserve = 'ram', limit = '0'}", &c);
	assert_int_equal(c.reserve, RAM / 4096 * 4096);
}

static void ways_to_write_toml(void **state)
{
	struct config c, expected = defaults;

	expected.size = GIB;
	expected.swap_priority = 5;
	load_good("size='1G'\r\n[swap]\r\npriority=5", &c);
	check_config(&c, &expected);
	load_good("\xef\xbb\xbfswap.priority = 0x5 # five\n\"size\" = 1_073_741_824\n", &c);
	check_config(&c, &expected);
	load_good("swap = {priority = +5}\nsize = \"\"\"\n1G\"\"\"\n[loop]\n[compression]", &c);
	check_config(&c, &expected);
}

/* Every algorithm, with every level of its own and none else. */
static void levels(void **state)
{
	static const struct config untouched = {.name = "untouched"};
	unsigned algorithms = 0;

	for (int codec = 0; codec < UZ_CODEC_COUNT; codec++) {
		const struct uz_codec_info *info = uz_codec_info(codec);
		struct config c;
		char text[100], expected[200], *message;

		if (!info)
			continue;
		algorithms++;
		snprintf(text, sizeof(text), "compression.algorithm = '%s'", info->name);
		load_good(text, &c);
		assert_int_equal(c.algorithm, codec);
		assert_int_equal(c.level, info->level_default);

		for (int64_t level = info->level_min - 1; level <= info->level_max + 1;
		     level += level == info->level_min ? info->level_max - level : 1) {
			bool good = level >= info->level_min && level <= info->level_max;
			int err;

			c = untouched;
			snprintf(text, sizeof(text),
				 "compression = {level = %jd, algorithm = '%s'}", (intmax_t)level,
				 info->name);
			err = load_text(text, &c, &message);
			assert_int_equal(err, good ? 0 : -EINVAL);
			if (good) {
				assert_int_equal(c.level, level);
				continue;
			}
			check_config(&c, &untouched);
			snprintf(expected, sizeof(expected),
				 ":1: compression.level: %jd is out of range for %s; "
				 "expected an integer from %d to %d",
				 (intmax_t)level, info->name, info->level_min, info->level_max);
			assert_non_null(strstr(message, expected));
			free(message);
		}
	}
	assert_true(algorithms >= 2);
}

static void algorithms_are_named(void **state)
{
	struct config c;
	char *message;

	assert_int_equal(load_text("compression.algorithm = 'x'", &c, &message), -EINVAL);
	for (int codec = 0; codec < UZ_CODEC_COUNT; codec++)
		if (uz_codec_info(codec))
			assert_non_null(strstr(message, uz_codec_info(codec)->name));
	free(message);
}

/* The largest size is what the message about a larger one says. */
static void sizes_by_memory(void **state)
{
	static const struct {
		struct machine machine;
		const char *largest, *too_large, *said;
	} cases[] = {
		{{512 * MIB, 512 * MIB, 2},
		 "size = '65536M'",
		 "size = '64G + 4K'",
		 "size: 68719480832 bytes take a table of 128 MiB, locked in memory; expected at "
		 "most 65536M, for which it is a quarter of the 512 MiB of this machine"},
		{{8 * GIB, 512 * MIB, 2},
		 "size = '65536M'",
		 "size = '1T'",
		 "size: 1099511627776 bytes take a table of 2048 MiB, locked in memory; expected "
		 "at most 65536M, for which it is a quarter of the 512 MiB of the memory cgroup"},
		{{64 * TIB, UINT64_MAX, 2},
		 "size = '4T'",
		 "size = '4T + 4K'",
		 "size: 4398046515200 bytes is out of range; "},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *message;
		struct config c;

		assert_int_equal(load_text_on(&cases[i].machine, cases[i].largest, &c, &message),
				 0);
		assert_int_equal(load_text_on(&cases[i].machine, cases[i].too_large, &c, &message),
				 -EINVAL);
		if (!strstr(message, cases[i].said))
			fail_msg("%s", message);
		free(message);
	}
}

static void expect_failure(const char *path, int err, const char *expected)
{
	char *message = NULL;
	struct config c;

	assert_int_equal(config_load(path, &machine, &c, &message), err);
	assert_string_equal(message, expected);
	free(message);
}

static void files_that_cannot_be_read(void **state)
{
	expect_failure("/nonexistent.toml", -ENOENT,
		       "/nonexistent.toml: No such file or directory");
	expect_failure("/tmp", -EISDIR, "/tmp: Is a directory");
	expect_failure("/dev/zero", -EFBIG, "/dev/zero: File too large");
}

/* The largest file that is read, filled with what toml++ handles by recursion. */
static void largest_file(void **state)
{
	char text[16384 + 2] = {0}, *message;
	struct config c;

	memset(text, ' ', 16384);
	load_good(text, &c);
	check_config(&c, &defaults);
	text[16384] = ' ';
	assert_int_equal(load_text(text, &c, &message), -EFBIG);
	free(message);
	text[16384] = 0;

	for (size_t i = 0; i < 16380; i += 2)
		memcpy(&text[i], "a.", 2);
	memcpy(&text[16380], "a=1", 3);
	assert_int_equal(load_text(text, &c, &message), -EINVAL);
	assert_non_null(strstr(message, ":1: a: unknown key; "));
	free(message);

	memset(text, '[', 16384);
	assert_int_equal(load_text(text, &c, &message), -EINVAL);
	free(message);
	memcpy(text, "size='", 6);
	memset(text + 6, '(', 16384 - 7);
	text[16383] = '\'';
	assert_int_equal(load_text(text, &c, &message), -EINVAL);
	assert_non_null(strstr(message, "column 33: too many open parentheses; "));
	free(message);
}

/* All of a file, to be freed. */
static char *slurp(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	if (!f)
		fail_msg("%s: %s", path, strerror(errno));
	if (getdelim(&text, &size, 0, f) < 0)
		fail_msg("%s is empty", path);
	fclose(f);
	return text;
}

static void default_file(void **state)
{
	char *text = slurp("config/uzram.toml");
	struct config c;

	load_good(text, &c);
	check_config(&c, &defaults);
	free(text);
}

static void every_key_is_documented(void **state)
{
	char *toml = slurp("config/uzram.toml"), *page = slurp("daemon/config/uzram.toml.5.scd");

	for (const struct config_key *k = config_keys; k->path; k++) {
		const char *dot = strrchr(k->path, '.');
		const char *table = toml;
		char pattern[100];

		if (dot) {
			snprintf(pattern, sizeof(pattern), "\n[%.*s]\n", (int)(dot - k->path),
				 k->path);
			table = strstr(toml, pattern);
			if (!table)
				fail_msg("config/uzram.toml lacks the table of %s", k->path);
		}
		snprintf(pattern, sizeof(pattern), "%s = ", dot ? dot + 1 : k->path);
		table = strstr(table, pattern);
		if (!table || !strchr("\n#", table[-1]))
			fail_msg("config/uzram.toml lacks %s", k->path);
		snprintf(pattern, sizeof(pattern), "\n*%s* = ", k->path);
		if (!strstr(page, pattern))
			fail_msg("uzram.toml.5.scd lacks %s", k->path);
	}
	free(page);
	free(toml);
}

static bool ends_in(const char *name, const char *end)
{
	size_t len = strlen(name), end_len = strlen(end);

	return len > end_len && !strcmp(name + len - end_len, end);
}

/* Calls each with the path of every file in dir that ends so, of which there must be min. */
static void for_each_file(const char *dir, const char *end, unsigned min,
			  void (*each)(const char *path))
{
	struct dirent *entry;
	unsigned count = 0;
	char path[1000];
	DIR *d = opendir(dir);

	if (!d)
		fail_msg("%s: %s", dir, strerror(errno));
	while ((entry = readdir(d))) {
		if (!ends_in(entry->d_name, end))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		each(path);
		count++;
	}
	closedir(d);
	if (count < min)
		fail_msg("%s: %u files, expected %u or more", dir, count, min);
}

static void check_example(const char *path)
{
	char *message = NULL;
	struct config c;

	if (config_load(path, &machine, &c, &message))
		fail_msg("%s", message);
}

static void examples(void **state)
{
	for_each_file("config/examples", ".toml", 1, check_example);
}

/* The path of path's sibling that ends in another way, to be freed. */
static char *sibling(const char *path, const char *end)
{
	char *ret;

	assert_true(asprintf(&ret, "%.*s%s", (int)(strrchr(path, '.') - path), path, end) > 0);
	return ret;
}

static void check_bad(const char *path)
{
	static const struct config untouched = {.name = "untouched"};
	char *expect = sibling(path, ".expect"), *expected = slurp(expect), *message = NULL;
	struct config c = untouched;
	int err = config_load(path, &machine, &c, &message);
	const char *said;

	if (err != -EINVAL || !message)
		fail_msg("%s: %s", path, err ? strerror(-err) : "no error");
	said = message + (strrchr(path, '/') + 1 - path); /* the directory is left out */
	expected[strcspn(expected, "\n")] = 0;
	if (strcmp(said, expected))
		fail_msg("wrong message:\n%s\nexpected:\n%s", said, expected);
	check_config(&c, &untouched);
	free(message);
	free(expected);
	free(expect);
}

static void bad_files(void **state)
{
	for_each_file("tests/unit/config/bad", ".toml", 30, check_bad);
}

/* One without the other would be a test that never runs. */
static void check_expectation(const char *path)
{
	char *toml = sibling(path, ".toml");

	if (access(toml, R_OK))
		fail_msg("%s: %s", toml, strerror(errno));
	free(toml);
}

static void expectations(void **state)
{
	for_each_file("tests/unit/config/bad", ".expect", 30, check_expectation);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_of_an_empty_file),
		cmocka_unit_test(defaults_of_extreme_machines),
		cmocka_unit_test(every_key),
		cmocka_unit_test(values_at_the_edge),
		cmocka_unit_test(names_of_files),
		cmocka_unit_test(sizes_by_memory),
		cmocka_unit_test(limit_and_reserve),
		cmocka_unit_test(ways_to_write_toml),
		cmocka_unit_test(levels),
		cmocka_unit_test(algorithms_are_named),
		cmocka_unit_test(files_that_cannot_be_read),
		cmocka_unit_test(largest_file),
		cmocka_unit_test(default_file),
		cmocka_unit_test(every_key_is_documented),
		cmocka_unit_test(examples),
		cmocka_unit_test(bad_files),
		cmocka_unit_test(expectations),
	};

	if (argc != 2 || chdir(argv[1])) {
		fprintf(stderr, "usage: %s ROOT\n", argv[0]);
		return 2;
	}
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
