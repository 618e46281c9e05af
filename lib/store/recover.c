/* SPDX-License-Identifier: MIT
 *
 * Recovery: from the slot table, whatever was going on when the last process died, to a pool and
 * statistics that agree with it.
 *
 * An object that no entry names is free by not being claimed. An entry that can't be right is
 * marked damaged. When two entries claim the same memory one of them is wrong, and only the
 * checksums can tell which: then all is claimed anew, and each object verified first. That takes
 * the time of reading everything, but only on an arena that is known to be damaged.
 */
#include <errno.h>

#include "store/internal.h"

/* Whether the entry is one that this version can have written, as far as it can be told without the
 * pool. */
static bool well_formed(uz_entry e)
{
	unsigned codec = uz_entry_codec(e);

	if (e & UZ_ENTRY_UNUSED)
		return false;
	if (uz_entry_is_inline(e))
		return e == uz_entry_inline(uz_entry_word(e), uz_entry_inline_sum(e));
	return codec > UZ_CODEC_NONE && codec < UZ_CODEC_COUNT && uz_entry_size(e) <= UZ_PAGE_SIZE;
}

/* verify: NULL, or what to verify the object with before it is claimed. -EEXIST: another entry has
 * claimed that memory. -EINVAL: damaged. */
static int claim(struct uz_store *s, struct uz_codec_ctx *verify, uint64_t slot, uz_entry e)
{
	if (!e || e == UZ_ENTRY_DAMAGED)
		return 0;
	if (!well_formed(e))
		return -EINVAL;
	if (!uz_entry_has_object(e))
		return 0;
	if (verify && !uz_slot_object_valid(s, verify, slot, e))
		return -EINVAL;
	return uz_pool_claim(s->pool, uz_entry_off(e), uz_entry_size(e));
}

/* Claim what the table names; clear locks; mark what is damaged. */
static int claim_all(struct uz_store *s, struct uz_codec_ctx *verify)
{
	for (uint64_t slot = 0; slot < s->nslots; slot++) {
		uz_entry found = atomic_load_explicit(&s->table[slot], memory_order_relaxed);
		uz_entry e = found & ~UZ_ENTRY_LOCK;
		int err;

		if (!found)
			continue;
		err = claim(s, verify, slot, e);
		if (err == -EEXIST && !verify)
			return err;
		if (err) {
			e = UZ_ENTRY_DAMAGED;
			count(&s->gone, N_CORRUPT, 1);
		}
		if (e != found)
			atomic_store_explicit(&s->table[slot], e, memory_order_relaxed);
	}
	return 0;
}

static int claim_verified(struct uz_store *s)
{
	struct uz_codec_ctx *codec;
	int err;

	uz_pool_free(s->pool);
	s->pool = NULL;
	err = uz_pool_new(s->config.arena, &s->pool);
	if (err)
		return err;
	err = uz_codec_ctx_new(s->config.codec, s->config.level, &codec);
	if (err)
		return err;
	err = claim_all(s, codec);
	uz_codec_ctx_free(codec);
	return err;
}

int uz_store_recover(struct uz_store *s)
{
	int err = claim_all(s, NULL);

	if (err == -EEXIST)
		err = claim_verified(s);
	if (err)
		return err;
	for (uint64_t slot = 0; slot < s->nslots; slot++)
		uz_count_entry(&s->gone,
			       atomic_load_explicit(&s->table[slot], memory_order_relaxed), 1);
	return uz_pool_claim_end(s->pool);
}
