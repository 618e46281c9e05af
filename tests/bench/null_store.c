/* SPDX-License-Identifier: MIT
 *
 * A store that keeps nothing: linked in place of the library's, it makes the daemon whose speed is
 * the ceiling of the front end. Writes and discards do nothing; a read leaves the buffer as it is.
 */
#include <errno.h>
#include <stdlib.h>

#include "uzram/store.h"

struct uz_store {
	struct uz_store_config config;
};

int uz_store_prepare(const struct uz_store_config *config, struct uz_store **ret)
{
	struct uz_store *s = malloc(sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->config = *config;
	*ret = s;
	return 0;
}

void uz_store_warm(struct uz_store *store)
{
}

int uz_store_start(struct uz_store *store, bool wait)
{
	return 0;
}

/* Nothing is asked of a worker: the store stands for it. */
int uz_worker_new(struct uz_store *store, struct uz_worker **ret)
{
	*ret = (struct uz_worker *)store;
	return 0;
}

int uz_read(struct uz_worker *worker, uint64_t off, size_t len, void *buf)
{
	return 0;
}

int uz_write(struct uz_worker *worker, uint64_t off, size_t len, const void *buf)
{
	return 0;
}

int uz_discard(struct uz_worker *worker, uint64_t off, uint64_t len)
{
	return 0;
}

unsigned uz_store_populating(const struct uz_store *store)
{
	return 0;
}

void uz_store_flush(struct uz_store *store)
{
}

uint64_t uz_store_compact(struct uz_store *store)
{
	return 0;
}

void uz_store_set_limit(struct uz_store *store, uint64_t bytes)
{
}

void uz_store_reset_max(struct uz_store *store)
{
}

void uz_store_get_stat(struct uz_store *store, struct uz_store_stat *ret)
{
	*ret = (struct uz_store_stat){.size = ret->size};
}

uint64_t uz_store_pages_stored(struct uz_store *store)
{
	return 0;
}

enum uz_codec uz_store_codec(const struct uz_store *store)
{
	return store->config.codec;
}

uint64_t uz_store_disksize(const struct uz_store *store)
{
	return uz_arena_disksize(store->config.arena);
}
