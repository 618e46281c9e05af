/* SPDX-License-Identifier: MIT
 *
 * A user of libuzram: nothing but its public headers, and -luzram. A page is written, the store is
 * thrown away, and another one on the same arena has the page.
 */
#include <string.h>

#include <uzram/arena.h>
#include <uzram/codec.h>
#include <uzram/defer.h>
#include <uzram/store.h>

static int use(const struct uz_store_config *config, int (*io)(struct uz_worker *w))
{
	struct uz_worker *worker = NULL;
	struct uz_store *store = NULL;
	int err = uz_store_new(config, &store);

	if (!err)
		err = uz_worker_new(store, &worker);
	if (!err)
		err = io(worker);
	uz_worker_free(worker);
	uz_store_free(store);
	return err;
}

static const char text[] = "what is written is there";

static int write_text(struct uz_worker *w)
{
	return uz_write(w, 12345, sizeof(text), text);
}

static int read_text(struct uz_worker *w)
{
	char got[sizeof(text)];
	int err = uz_read(w, 12345, sizeof(got), got);

	return err ? err : memcmp(got, text, sizeof(text));
}

int main(void)
{
	struct uz_store_config config = {
		.size = sizeof(config),
		.codec = (enum uz_codec)uz_codec_by_name("zstd"),
		.level = uz_codec_info(UZ_CODEC_ZSTD)->level_default,
		.deferred = true,
		.defer_spares = 4,
		.defer_age_ms = 10,
	};
	int err = uz_arena_new(1 << 20, &config.arena);

	if (!err)
		err = use(&config, write_text);
	if (!err)
		err = use(&config, read_text);
	uz_arena_free(config.arena);
	return err != 0;
}
