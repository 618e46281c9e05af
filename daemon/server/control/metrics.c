/* SPDX-License-Identifier: MIT
 *
 * The statistics as OpenMetrics text (https://prometheus.io/docs/specs/om/open_metrics_spec/).
 */
#include <inttypes.h>
#include <stdio.h>

#include "server/control/attributes.h"
#include "server/latency.h"

struct metric {
	const char *name; /* without the "uzram_" in front and the "_total" behind */
	const char *unit; /* the last word of the name, or NULL */
	bool counter;	  /* else a gauge */
	const char *help;
	uint64_t value;
};

static size_t print_metric(const struct metric *m, const char *device, char *text, size_t size)
{
	int n = snprintf(text, size, "# TYPE uzram_%s %s\n", m->name,
			 m->counter ? "counter" : "gauge");

	if (m->unit)
		n += snprintf(text + n, size - (size_t)n, "# UNIT uzram_%s %s\n", m->name, m->unit);
	n += snprintf(text + n, size - (size_t)n,
		      "# HELP uzram_%s %s\nuzram_%s%s{device=\"%s\"} %" PRIu64 "\n", m->name,
		      m->help, m->name, m->counter ? "_total" : "", device, m->value);
	return (size_t)n;
}

void metrics_show(struct control *c, char *text, size_t size)
{
	struct uz_store_stat st;
	size_t n = 0;

	uz_store_stat(c->store, &st);
	const struct metric metrics[] = {
		{"disksize_bytes", "bytes", false, "Size of the device.",
		 uz_store_disksize(c->store)},
		{"stored_pages", "pages", false, "Pages that hold data.", st.pages_stored},
		{"same_filled_pages", "pages", false, "Pages of one repeated word.", st.same_pages},
		{"huge_pages", "pages", false, "Incompressible pages, stored as they are.",
		 st.huge_pages},
		{"huge_pages_written", NULL, true, "Incompressible pages ever written.",
		 st.huge_pages_since},
		{"compressed_bytes", "bytes", false, "Encoded length of what is stored.",
		 st.compr_bytes},
		{"memory_used_bytes", "bytes", false, "Memory in zspages.", st.mem_used},
		{"memory_used_max_bytes", "bytes", false, "The most memory in zspages.",
		 st.mem_used_max},
		{"memory_limit_bytes", "bytes", false, "Limit of memory in zspages; 0: none.",
		 st.mem_limit},
		{"memory_reserve_bytes", "bytes", false, "Memory populated and free.",
		 st.mem_ready},
		{"slot_table_bytes", "bytes", false, "Memory of the slot table.", st.table_bytes},
		{"allocator_bytes", "bytes", false, "Memory of the allocator's state.",
		 st.meta_bytes},
		{"compacted_pages", "pages", true, "Pages freed by compaction.",
		 st.pages_compacted},
		{"compaction_moved_bytes", "bytes", true, "Bytes moved for that.", st.moved_bytes},
		{"read_pages", "pages", true, "Pages read.", st.reads},
		{"written_pages", "pages", true, "Pages written.", st.writes},
		{"freed_pages", "pages", true, "Pages freed by discards.", st.notify_free},
		{"failed_reads", NULL, true, "Reads of a page that failed.", st.failed_reads},
		{"failed_writes", NULL, true, "Writes of a page that failed.", st.failed_writes},
		{"failed_writes_limit", NULL, true, "... because the limit of memory was reached.",
		 st.failed_limit},
		{"failed_writes_memory", NULL, true, "... because memory could not be had.",
		 st.failed_memory},
		{"invalid_requests", NULL, true, "Requests outside the device.", st.invalid_io},
		{"corruptions", NULL, true, "Damaged pages and entries found.", st.corrupt},
		{"reserve_dry", NULL, true, "Writes that waited for memory.", st.reserve_dry},
		{"reserve_self", NULL, true, "... and then had it from the kernel themselves.",
		 st.reserve_self},
		{"deferred_pushed", NULL, true, "Frees handed to the drain thread.",
		 st.defer_pushed},
		{"deferred_drained", NULL, true, "Frees the drain thread has done.",
		 st.defer_drained},
		{"deferred_fallbacks", NULL, true, "Frees done at once for want of a buffer.",
		 st.defer_fallbacks},
		{"deferred_runs", NULL, true, "Runs of the drain.", st.defer_runs},
		{"deferred_pending_bytes", "bytes", false,
		 "Encoded length of what is not yet freed.", st.defer_pending_bytes},
		{"deferred_spare_buffers", "buffers", false, "Buffers in the pool.",
		 st.defer_spares},
		{"latency_holds", NULL, true, "Times that the CPUs were kept awake for reads.",
		 atomic_load(&c->latency->holds)},
		{"latency_held_nanoseconds", "nanoseconds", true,
		 "How long they were, without the time that has not ended.",
		 atomic_load(&c->latency->held_ns)},
		{"server_restarts", NULL, true, "Servers that died and were replaced.",
		 c->state->restarts},
		{"upgrades", NULL, true, "Live upgrades.", c->state->upgrades},
		{"recovery_nanoseconds", "nanoseconds", false,
		 "From the death of a server to its successor's taking requests, the last time.",
		 atomic_load(&c->status->recovery_ns)},
		{"recovery_max_nanoseconds", "nanoseconds", false, "... the longest time.",
		 atomic_load(&c->status->recovery_max_ns)},
		{"outage_nanoseconds", "nanoseconds", false,
		 "From the death of a server to its successor's first answer, the last time.",
		 atomic_load(&c->status->outage_ns)},
		{"outage_max_nanoseconds", "nanoseconds", false, "... the longest time.",
		 atomic_load(&c->status->outage_max_ns)},
	};

	for (unsigned i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++)
		n += print_metric(&metrics[i], c->config->name, text + n, size - n);
	snprintf(text + n, size - n, "# EOF\n");
}
