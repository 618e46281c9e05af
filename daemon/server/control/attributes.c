/* SPDX-License-Identifier: MIT
 *
 * The formats are zram's (Documentation/admin-guide/blockdev/zram.rst).
 */
#include "server/control/attributes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/size_expr.h"
#include "server/attempt.h"
#include "server/control/snapshot.h"

/* --- what is shown --- */

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

static void show_debug_stat(struct control *c, char *text, size_t size)
{
	struct uz_store_stat st;

	/* Writes that had to wait for memory; and frees that were missed, of which there are none
	 * here. */
	uz_store_stat(c->store, &st);
	snprintf(text, size, "version: 1\n%8" PRIu64 " %8u\n", st.reserve_dry, 0);
}

static void show_sleep(struct control *c, char *text, size_t size)
{
	snprintf(text, size, "%d\n", c->state->stable == PHASE_ASLEEP);
}

static void show_upgrade(struct control *c, char *text, size_t size)
{
	snprintf(text, size, "%u\n", c->state->upgrades);
}

/* --- what is set on the spot --- */

/* A size as in the configuration, but without "ram". 0 or -EINVAL. */
static int parse_size(const char *value, uint64_t *ret)
{
	struct size_error error;
	bool over_ram;

	return size_expr_eval(value, 0, ret, &over_ram, &error) || over_ram ? -EINVAL : 0;
}

static int set_mem_limit(struct control *c, const char *value, int (**later)(struct control *c))
{
	uint64_t bytes;

	if (parse_size(value, &bytes) || bytes > INT64_MAX - UZ_PAGE_SIZE)
		return -EINVAL;
	/* The supervisor lets the arena have what the configuration says, and no more. */
	if (c->config->mem_limit && bytes > c->config->mem_limit)
		return -EINVAL;
	bytes = (bytes + UZ_PAGE_SIZE - 1) / UZ_PAGE_SIZE * UZ_PAGE_SIZE; /* as zram does */
	uz_store_set_limit(c->store, bytes ? bytes : c->config->mem_limit);
	return 0;
}

static int set_mem_used_max(struct control *c, const char *value, int (**later)(struct control *c))
{
	if (strcmp(value, "0") != 0)
		return -EINVAL;
	uz_store_reset_max(c->store);
	return 0;
}

/* These can be set only before there is a device, which is to say in its configuration: -EBUSY, as
 * zram answers once it has one. */

static int set_disksize(struct control *c, const char *value, int (**later)(struct control *c))
{
	uint64_t bytes;

	return parse_size(value, &bytes) || !bytes ? -EINVAL : -EBUSY;
}

static int set_comp_algorithm(struct control *c, const char *value,
			      int (**later)(struct control *c))
{
	return uz_codec_by_name(value) < 0 ? -EINVAL : -EBUSY;
}

static int set_max_comp_streams(struct control *c, const char *value,
				int (**later)(struct control *c))
{
	uint64_t streams;

	return parse_size(value, &streams) || !streams ? -EINVAL : -EBUSY;
}

/* --- what takes long --- */

static int compact(struct control *c)
{
	uz_store_compact(c->store);
	return 0;
}

static int set_compact(struct control *c, const char *value, int (**later)(struct control *c))
{
	*later = compact;
	return 0;
}

static int flush(struct control *c)
{
	uz_store_flush(c->store);
	return 0;
}

static int set_flush(struct control *c, const char *value, int (**later)(struct control *c))
{
	*later = flush;
	return 0;
}

/* Have the supervisor do something, and wait for its answer. Only the control thread does, so that
 * the answer is to this request. */
static int ask(struct control *c, enum request request)
{
	int result;

	if (send(c->socket, &request, sizeof(request), MSG_NOSIGNAL) < 0 ||
	    recv(c->socket, &result, sizeof(result), 0) != sizeof(result))
		return -EIO; /* it is dead */
	return result;
}

static int stop(struct control *c)
{
	return ask(c, REQUEST_STOP);
}

static int stop_forced(struct control *c)
{
	return ask(c, REQUEST_STOP_FORCE);
}

/* At once, since the control thread waits for the end of the stop. That has the answer. */
static int cancel_stop(struct control *c)
{
	const enum request request = REQUEST_STOP_CANCEL;

	return send(c->socket, &request, sizeof(request), MSG_NOSIGNAL) < 0 ? -EIO : 0;
}

static int set_stop(struct control *c, const char *value, int (**later)(struct control *c))
{
	if (strcmp(value, "cancel") == 0)
		return cancel_stop(c);
	if (strcmp(value, "force") == 0)
		*later = stop_forced;
	else if (strcmp(value, "1") == 0 || !value[0])
		*later = stop;
	return *later ? 0 : -EINVAL;
}

static int reset(struct control *c)
{
	int err = ask(c, REQUEST_RESET);

	if (!err)
		uz_store_reset_max(c->store);
	return err;
}

static int set_reset(struct control *c, const char *value, int (**later)(struct control *c))
{
	if (strcmp(value, "1") == 0)
		*later = reset;
	return *later ? 0 : -EINVAL;
}

static int upgrade(struct control *c)
{
	return ask(c, REQUEST_UPGRADE);
}

static int set_upgrade(struct control *c, const char *value, int (**later)(struct control *c))
{
	if (strcmp(value, "1") == 0)
		*later = upgrade;
	return *later ? 0 : -EINVAL;
}

static int fall_asleep(struct control *c)
{
	return ask(c, REQUEST_SLEEP);
}

static int wake(struct control *c)
{
	return ask(c, REQUEST_WAKE);
}

static int set_sleep(struct control *c, const char *value, int (**later)(struct control *c))
{
	if (strcmp(value, "1") == 0)
		*later = fall_asleep;
	else if (strcmp(value, "0") == 0)
		*later = wake;
	return *later ? 0 : -EINVAL;
}

#ifdef UZ_TEST_HOOKS
static int set_attempt(struct control *c, const char *value, int (**later)(struct control *c))
{
	return attempt(c, value) < 0 ? -errno : 0;
}
#endif

/* --- the table --- */

/* clang-format off */
const struct attribute control_attributes[] = {
#ifdef UZ_TEST_HOOKS
	{"attempt", 1000, 0200, NULL, set_attempt},
#endif
	{"block_device", 3, 0444, show_block_device, NULL},
	{"comp_algorithm", 4, 0644, show_comp_algorithm, set_comp_algorithm},
	{"compact", 5, 0200, NULL, set_compact},
	{"debug_stat", 20, 0444, show_debug_stat, NULL},
	{"defer_stat", 6, 0444, show_defer_stat, NULL},
	{"disksize", 7, 0644, show_disksize, set_disksize},
	{"flush", 8, 0200, NULL, set_flush},
	{"initstate", 9, 0444, show_initstate, NULL},
	{"io_stat", 10, 0444, show_io_stat, NULL},
	{"max_comp_streams", 11, 0644, show_max_comp_streams, set_max_comp_streams},
	{"mem_limit", 12, 0644, show_mem_limit, set_mem_limit},
	{"mem_used_max", 13, 0644, show_mem_used_max, set_mem_used_max},
	{"metrics", 14, 0444, metrics_show, NULL},
	{"mm_stat", 15, 0444, show_mm_stat, NULL},
	{"pid", 16, 0444, show_pid, NULL},
	{"reset", 21, 0200, NULL, set_reset},
	{"sleep", 17, 0644, show_sleep, set_sleep},
	{"stop", 18, 0200, NULL, set_stop},
	{"upgrade", 19, 0644, show_upgrade, set_upgrade},
};
/* clang-format on */
const unsigned control_attribute_count = sizeof(control_attributes) / sizeof(control_attributes[0]);

/* --- the whole --- */

int control_new(const struct config *config, struct uz_store *store, const struct state *state,
		struct status *status, int socket, const struct latency *latency,
		struct control **ret)
{
	struct control *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return -ENOMEM;
	*c = (struct control){config, store, state, status, socket, latency};
	err = snapshots_new(&c->snapshots);
	if (!err)
		err = jobs_new(c, &c->jobs);
	if (!err)
		*ret = c;
	return err; /* and the process ends */
}

void control_finish(struct control *c)
{
	jobs_finish(c->jobs);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

void control_set(struct control *c, const struct attribute *a, const char *text, size_t len,
		 const struct waiter *w)
{
	char value[CONTROL_VALUE_MAX + 1] = "";
	int (*later)(struct control * c) = NULL;
	int err = -EINVAL;

	while (len && is_blank(text[len - 1]))
		len--;
	while (len && is_blank(text[0])) {
		text++;
		len--;
	}
	if (len <= CONTROL_VALUE_MAX && !memchr(text, '\0', len)) {
		memcpy(value, text, len);
		err = a->set(c, value, &later);
	}
	if (err || !later)
		w->done(w, err);
	else if (!jobs_add(c->jobs, later, w))
		w->done(w, -EBUSY);
}
