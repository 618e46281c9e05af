/* SPDX-License-Identifier: MIT
 *
 * Recovery: it makes pool and statistics from the slot table, whatever was going on when the
 * last process died.
 *
 * An object that no entry names is free, by not being claimed. An entry that can't be right is
 * marked damaged. When two entries claim the same memory one of them is wrong, and only the
 * checksums can tell which. Then everything is claimed anew, and each object is verified first.
 * That takes the time of reading everything, but only on an arena that is known to be damaged.
 */
#include <errno.h>

#include "base/crash.h"
#include "store/internal.h"

/* Whether this version can have written the entry, as far as that can be told without the pool. */
static bool well_formed(uz_entry e)
{
	unsigned codec = uz_entry_codec(e);

	if (e & UZ_ENTRY_UNUSED)
		return false;
	if (uz_entry_is_inline(e))
		return e == uz_entry_inline(uz_entry_word(e), uz_entry_inline_sum(e));
	return codec > UZ_CODEC_NONE && codec < UZ_CODEC_COUNT && uz_entry_sound(e);
}

/* Claim the object of an entry, if it has one. verify: check its sum first. 0; -EEXIST: another
 * entry has claimed that memory; -EINVAL: the entry is damaged. */
static int claim(struct uz_store *s, bool verify, uint64_t slot, uz_entry e)
{
	if (!e || e == UZ_ENTRY_DAMAGED)
		return 0;
	if (!well_formed(e))
		return -EINVAL;
	if (!uz_entry_has_object(e))
		return 0;
	/* Spend none of the allocator's memory on an offset beyond everything that was ever
	 * used. */
	if (!uz_arena_surveyed(s->config.arena, uz_entry_off(e)))
		return -EINVAL;
	if (verify && !uz_slot_object_valid(s, slot, e))
		return -EINVAL;
	return uz_pool_claim(s->pool, uz_entry_off(e), uz_entry_size(e));
}

/* Claim and count everything that the table names; clear locks; mark what is damaged. */
static int claim_all(struct uz_store *s, bool verify)
{
	for (uint64_t slot = 0; slot < s->nslots; slot++) {
		uz_entry found = atomic_load_explicit(&s->table[slot], memory_order_relaxed);
		uz_entry e = found & ~UZ_ENTRY_LOCK;
		int err;

		if (!found)
			continue;
		UZ_CRASH(RECOVER_CLAIM);
		err = claim(s, verify, slot, e);
		if (err == -EEXIST && !verify)
			return err;
		if (err) {
			e = UZ_ENTRY_DAMAGED;
			count(&s->unowned_counters, N_CORRUPT, 1);
		}
		if (e != found)
			atomic_store_explicit(&s->table[slot], e, memory_order_relaxed);
		uz_count_entry(&s->unowned_counters, e, 1);
	}
	return 0;
}

static int claim_verified(struct uz_store *s)
{
	/* Begin anew. What has been found damaged by now is marked, and stays counted. */
	for (unsigned i = 0; i < N_COUNTERS; i++) {
		if (i != N_CORRUPT)
			atomic_store_explicit(&s->unowned_counters.n[i], 0, memory_order_relaxed);
	}
	uz_pool_reset(s->pool);
	return claim_all(s, true);
}

int uz_store_recover(struct uz_store *s)
{
	int err = uz_arena_survey(s->config.arena);

	if (err)
		return err;
	err = claim_all(s, false);
	if (err == -EEXIST)
		err = claim_verified(s);
	if (!err)
		err = uz_pool_claim_end(s->pool);
	UZ_CRASH(RECOVER_RESTORED);
	return err;
}
