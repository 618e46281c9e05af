/* SPDX-License-Identifier: MIT
 *
 * The formats are zram's (Documentation/admin-guide/blockdev/zram.rst).
 */
#include "server/control/attributes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/size_expr.h"
#include "server/attempt.h"

static void show_disksize(struct control *c, char *text, size_t size)
{
	snprintf(text, size, "%" PRIu64 "\n", uz_store_disksize(c->store));
}

static void show_initstate(struct control *c, char *text, size_t size)
{
	snprintf(text, size, "1\n");
}

static void show_comp_algorithm(struct control *c, char *text, size_t size)
{
	size_t n = 0;

	for (int codec = 0; codec < UZ_CODEC_COUNT; codec++) {
		const struct uz_codec_info *info = uz_codec_info((enum uz_codec)codec);
		bool current = codec == (int)uz_store_codec(c->store);

		if (info)
			n += (size_t)snprintf(text + n, size - n, current ? "%s[%s]" : "%s%s",
					      n ? " " : "", info->name);
	}
	snprintf(text + n, size - n, "\n");
}

static void show_mm_stat(struct control *c, char *text, size_t size)
{
	struct uz_store_stat st;

	uz_store_stat(c->store, &st);
	snprintf(text, size,
		 "%8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64
		 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 "\n",
		 st.pages_stored << UZ_PAGE_SHIFT, st.compr_bytes, st.mem_used, st.mem_limit,
		 st.mem_used_max, st.same_pages, st.pages_compacted, st.huge_pages,
		 st.huge_pages_since);
}

static void show_io_stat(struct control *c, char *text, size_t size)
{
	struct uz_store_stat st;

	uz_store_stat(c->store, &st);
	snprintf(text, size,
		 "%8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 "\n",
		 st.failed_reads, st.failed_writes, st.invalid_io, st.notify_free, st.failed_limit,
		 st.failed_memory);
}

static void show_defer_stat(struct control *c, char *text, size_t size)
{
	struct uz_store_stat st;

	uz_store_stat(c->store, &st);
	snprintf(text, size,
		 "%8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8u %8" PRIu64
		 "\n",
		 st.defer_pushed, st.defer_drained, st.defer_fallbacks,
		 st.defer_pushed - st.defer_drained, st.defer_pending_bytes, st.defer_spares,
		 st.defer_runs);
}

static void show_mem_limit(struct control *c, char *text, size_t size)
{
	struct uz_store_stat st;

	uz_store_stat(c->store, &st);
	snprintf(text, size, "%" PRIu64 "\n", st.mem_limit);
}

static void show_mem_used_max(struct control *c, char *text, size_t size)
{
	struct uz_store_stat st;

	uz_store_stat(c->store, &st);
	snprintf(text, size, "%" PRIu64 "\n", st.mem_used_max);
}

static void show_max_comp_streams(struct control *c, char *text, size_t size)
{
	snprintf(text, size, "%u\n", c->config->workers);
}

static void show_block_device(struct control *c, char *text, size_t size)
{
	snprintf(text, size, "%s\n", c->state->block_device[0] ? c->state->block_device : "none");
}

static void show_pid(struct control *c, char *text, size_t size)
{
	snprintf(text, size, "%d\n", (int)c->state->supervisor);
}

static int set_mem_limit(struct control *c, const char *value)
{
	struct size_error error;
	uint64_t bytes;
	bool over_ram;

	/* As in zram: a number, perhaps with a unit; not an expression. */
	if (size_expr_eval(value, 0, &bytes, &over_ram, &error) || over_ram)
		return -EINVAL;
	/* The supervisor lets the arena have what the configuration says, and no more. */
	if (c->config->mem_limit && bytes > c->config->mem_limit)
		return -EINVAL;
	uz_store_set_limit(c->store, bytes ? bytes : c->config->mem_limit);
	return 0;
}

static int set_mem_used_max(struct control *c, const char *value)
{
	if (strcmp(value, "0") != 0)
		return -EINVAL;
	uz_store_reset_max(c->store);
	return 0;
}

static int set_compact(struct control *c, const char *value)
{
	uz_store_compact(c->store);
	return 0;
}

static int set_flush(struct control *c, const char *value)
{
	uz_store_flush(c->store);
	return 0;
}

/* Have the supervisor do something. */
static int ask(struct control *c, enum request request)
{
	int result;

	if (send(c->socket, &request, sizeof(request), MSG_NOSIGNAL) < 0 ||
	    recv(c->socket, &result, sizeof(result), 0) != sizeof(result))
		return -EIO; /* it is dead */
	return result;
}

static int set_stop(struct control *c, const char *value)
{
	return strcmp(value, "1") == 0 ? ask(c, REQUEST_STOP) : -EINVAL;
}

static int set_upgrade(struct control *c, const char *value)
{
	return strcmp(value, "1") == 0 ? ask(c, REQUEST_UPGRADE) : -EINVAL;
}

static int set_sleep(struct control *c, const char *value)
{
	if (strcmp(value, "1") == 0)
		return ask(c, REQUEST_SLEEP);
	return strcmp(value, "0") == 0 ? ask(c, REQUEST_WAKE) : -EINVAL;
}

static void show_sleep(struct control *c, char *text, size_t size)
{
	snprintf(text, size, "%d\n", c->state->stable == PHASE_ASLEEP);
}

static void show_upgrade(struct control *c, char *text, size_t size)
{
	snprintf(text, size, "%u\n", c->state->upgrades);
}

#ifdef UZ_TEST_HOOKS
static int set_attempt(struct control *c, const char *value)
{
	return attempt(c, value) < 0 ? -errno : 0;
}
#endif

const struct attribute control_attributes[] = {
#ifdef UZ_TEST_HOOKS
	{"attempt", 0200, NULL, set_attempt, false},
#endif
	{"block_device", 0444, show_block_device, NULL, false},
	{"comp_algorithm", 0444, show_comp_algorithm, NULL, false},
	{"compact", 0200, NULL, set_compact, true},
	{"defer_stat", 0444, show_defer_stat, NULL, false},
	{"disksize", 0444, show_disksize, NULL, false},
	{"flush", 0200, NULL, set_flush, true},
	{"initstate", 0444, show_initstate, NULL, false},
	{"io_stat", 0444, show_io_stat, NULL, false},
	{"max_comp_streams", 0444, show_max_comp_streams, NULL, false},
	{"mem_limit", 0644, show_mem_limit, set_mem_limit, false},
	{"mem_used_max", 0644, show_mem_used_max, set_mem_used_max, false},
	{"metrics", 0444, metrics_show, NULL, false},
	{"mm_stat", 0444, show_mm_stat, NULL, false},
	{"pid", 0444, show_pid, NULL, false},
	{"sleep", 0644, show_sleep, set_sleep, true},
	{"stop", 0200, NULL, set_stop, true},
	{"upgrade", 0644, show_upgrade, set_upgrade, true},
};
const unsigned control_attribute_count = sizeof(control_attributes) / sizeof(control_attributes[0]);
