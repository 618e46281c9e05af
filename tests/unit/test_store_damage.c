/* SPDX-License-Identifier: MIT
 *
 * Damage: objects and slot entries that aren't what was written. A page may then be lost, but no
 * other page, and nobody gets wrong bytes.
 */
#include "store_fixture.h"

#include <errno.h>

#include "pool/internal.h"

static void set_entry(uint64_t slot, uz_entry e)
{
	atomic_store(&uz_arena_table(arena)[slot], e);
}

static int read_slot(uint64_t slot, unsigned char *page)
{
	return uz_read(worker, slot * PAGE, PAGE, page);
}

/* Either the page or -EIO. Returns whether it is the page. */
static bool right_or_eio(uint64_t slot, enum page_kind kind, uint64_t number)
{
	unsigned char page[PAGE], want[PAGE];
	int err = read_slot(slot, page);

	if (err) {
		assert_int_equal(err, -EIO);
		return false;
	}
	make_page(kind, number, want);
	assert_memory_equal(page, want, PAGE);
	return true;
}

static void assert_lost(uint64_t slot)
{
	unsigned char page[PAGE];

	assert_int_equal(read_slot(slot, page), -EIO);
}

/* --- objects --- */

/* Returns how many of the object's damages didn't matter to the decoder. */
static unsigned damage_object(uint64_t slot, enum page_kind kind)
{
	unsigned char *object = uz_arena_ptr(arena, uz_entry_off(entry(slot)));
	size_t size = uz_entry_size(entry(slot));
	unsigned harmless = 0;

	for (size_t i = 0; i < size; i++) {
		struct uz_store_stat before = get_stat(), after;
		unsigned char bit = (unsigned char)(1u << (i % 8));
		bool right;

		object[i] ^= bit;
		right = right_or_eio(slot, kind, slot);
		object[i] ^= bit;
		after = get_stat();
		assert_int_equal(after.corrupt - before.corrupt, !right);
		assert_int_equal(after.failed_reads - before.failed_reads, !right);
		assert_int_equal(after.reads - before.reads, right);
		harmless += right;
	}
	return harmless;
}

static void test_object(void **state)
{
	static const enum uz_codec codecs[] = {UZ_CODEC_LZ4, UZ_CODEC_ZSTD};

	for (unsigned c = 0; c < 2; c++) {
		close_store();
		config.codec = codecs[c];
		open_store();
		for (enum page_kind kind = PAGE_WORD; kind < PAGE_KINDS; kind++) {
			unsigned harmless;

			put_page(kind, kind, kind);
			harmless = damage_object(kind, kind);
			if (kind == PAGE_WORD || kind == PAGE_RANDOM)
				assert_int_equal(harmless, 0);
			else
				assert_in_range(harmless, 0, uz_entry_len(entry(kind)) / 2);
			assert_page(kind, kind, kind);
		}
	}
}

/* A damaged page can't be changed in part, and stays as it is; it can be replaced. */
static void test_replacing(void **state)
{
	for (uint64_t slot = 0; slot < 3; slot++) {
		unsigned char *object, page[3 * PAGE];

		put_page(slot, PAGE_TEXT, slot);
		put_page(slot + 1, PAGE_TEXT, slot + 1);
		object = uz_arena_ptr(arena, uz_entry_off(entry(slot + 1)));
		object[10] ^= 1;
		assert_int_equal(uz_write(worker, (slot + 1) * PAGE + 5, 10, "0123456789"), -EIO);
		assert_int_equal(uz_discard(worker, (slot + 1) * PAGE + 5, 10), -EIO);
		/* Pages before the damaged one are read. */
		assert_int_equal(uz_read(worker, slot * PAGE, 2 * PAGE, page), -EIO);
		make_page(PAGE_TEXT, slot, page + 2 * PAGE);
		assert_memory_equal(page, page + 2 * PAGE, PAGE);
		if (slot == 0) {
			object[10] ^= 1;
			assert_page(slot + 1, PAGE_TEXT, slot + 1);
		} else if (slot == 1) {
			put_page(slot + 1, PAGE_TEXT, 99);
			assert_page(slot + 1, PAGE_TEXT, 99);
		} else {
			assert_int_equal(uz_discard(worker, (slot + 1) * PAGE, PAGE), 0);
			assert_zero(slot + 1);
		}
		assert_int_equal(get_stat().failed_writes, 2 * (slot + 1));
	}
	assert_int_equal(get_stat().corrupt, 3 * 3);
	uz_store_flush(store);
	assert_int_equal(uz_pool_check(store->pool), 0);
}

/* --- entries --- */

/* Also where nobody rebuilds anything. */
static void test_live_inline_entry(void **state)
{
	put_page(1, PAGE_INLINE, 1);
	for (unsigned bit = 10; bit < 64; bit++) {
		uz_entry e = entry(1);

		set_entry(1, e ^ UINT64_C(1) << bit);
		assert_lost(1);
		assert_int_equal(uz_write(worker, PAGE, 1, "x"), -EIO);
		set_entry(1, e);
	}
	assert_page(1, PAGE_INLINE, 1);
	assert_int_equal(get_stat().corrupt, 2 * (64 - 10));
}

static void test_live_object_entry(void **state)
{
	static const enum page_kind kinds[] = {PAGE_WORD, PAGE_TEXT, PAGE_RANDOM};

	for (uint64_t slot = 0; slot < 3; slot++) {
		uz_entry e;

		put_page(slot, kinds[slot], slot);
		e = entry(slot);
		/* Out of bounds, and not to be freed either. */
		set_entry(slot,
			  e | (kinds[slot] == PAGE_RANDOM ? UINT64_C(1) << 31 : UINT64_C(1) << 63));
		assert_lost(slot);
		put_page(slot, PAGE_TEXT, 99);
		assert_page(slot, PAGE_TEXT, 99);
		uz_store_flush(store);
		assert_int_equal(get_stat().corrupt, 2 * (slot + 1));
	}
	assert_int_equal(uz_pool_check(store->pool), 0);
}

/* Slots 0 to 26: three of each kind, and three that are empty. */
#define KINDS  (PAGE_KINDS + 1)
#define FILLED (3 * KINDS)

static enum page_kind kind_of(uint64_t slot)
{
	return slot % KINDS == PAGE_KINDS ? PAGE_ZERO : (enum page_kind)(slot % KINDS);
}

/* Flip one bit in the entries of one slot of each kind, from slot first on: theirs are the only
 * pages that may be lost. */
static void flip(unsigned bit, uint64_t first)
{
	for (uint64_t slot = 0; slot < FILLED; slot++) {
		if (slot % KINDS == PAGE_KINDS)
			assert_int_equal(uz_discard(worker, slot * PAGE, PAGE), 0);
		else
			put_page(slot, kind_of(slot), slot);
	}
	close_store();
	for (uint64_t slot = first; slot < first + KINDS; slot++)
		atomic_fetch_xor(&uz_arena_table(arena)[slot], UINT64_C(1) << bit);
	open_store();
	assert_int_equal(uz_pool_check(store->pool), 0);
	for (uint64_t slot = 0; slot < FILLED; slot++) {
		if (slot < first || slot >= first + KINDS || (UINT64_C(1) << bit) == UZ_ENTRY_LOCK)
			assert_page(slot, kind_of(slot), slot);
		else
			right_or_eio(slot, kind_of(slot), slot);
	}
	assert_int_equal(uz_discard(worker, 0, SLOTS * PAGE), 0);
	uz_store_flush(store);
	assert_int_equal(uz_pool_check(store->pool), 0);
	assert_int_equal(get_stat().mem_used, 0);
}

static void test_entry_bits(void **state)
{
	for (unsigned bit = 0; bit < 64; bit++) {
		flip(bit, 0);
		flip(bit, FILLED - KINDS);
	}
}

/* An entry that names another slot's object is the one that is wrong, not the other. */
static void test_stolen_object(void **state)
{
	for (uint64_t slot = 1; slot < 4; slot++)
		put_page(slot, PAGE_TEXT, slot);
	close_store();
	set_entry(0, entry(2));
	set_entry(4, entry(2));
	open_store();
	assert_lost(0);
	assert_lost(4);
	for (uint64_t slot = 1; slot < 4; slot++)
		assert_page(slot, PAGE_TEXT, slot);
	assert_int_equal(get_stat().corrupt, 2);
}

/* An entry that claims a whole zspage for objects of another size. */
static void test_stolen_zspage(void **state)
{
	const struct size_class *c, *other;
	uint64_t off;

	for (uint64_t slot = 1; slot < 100; slot++)
		put_page(slot, PAGE_WORD, slot);
	off = uz_entry_off(entry(1));
	c = &store->pool->classes[uz_pool_class(store->pool, uz_entry_size(entry(1)))];
	other = c - 1;
	while (other->npages != c->npages)
		other--;
	set_entry(0, uz_entry_object(UZ_CODEC_LZ4, off, other->size - UZ_SUM_SIZE));
	close_store();
	open_store();
	assert_lost(0);
	for (uint64_t slot = 1; slot < 100; slot++)
		assert_page(slot, PAGE_WORD, slot);
}

/* Nor is a page read that belongs elsewhere. */
static void test_swapped_entries(void **state)
{
	for (enum page_kind kind = PAGE_INLINE; kind < PAGE_KINDS; kind++) {
		uint64_t slot = 2 * kind;
		uz_entry e;

		put_page(slot, kind, slot);
		put_page(slot + 1, kind, slot + 1);
		e = entry(slot);
		set_entry(slot, entry(slot + 1));
		set_entry(slot + 1, e);
		assert_lost(slot);
		assert_lost(slot + 1);
	}
}

/* Out of bounds, or nothing that could have been written. */
static void test_impossible_entries(void **state)
{
	const uz_entry bad[] = {
		uz_entry_object(UZ_CODEC_LZ4, uz_arena_data_size(arena), 100),
		uz_entry_object(UZ_CODEC_ZSTD, UINT64_MAX, 4000),
		uz_entry_object(UZ_CODEC_LZ4, uz_arena_data_size(arena) - UZ_POOL_GRANULE, 4000),
		uz_entry_object(UZ_CODEC_LZ4, 0, UZ_PAGE_SIZE),
		uz_entry_raw((UZ_RAW_PAGES - 1) << UZ_PAGE_SHIFT, 0),
		uz_entry_raw(uz_arena_data_size(arena) / UZ_UNIT_PAGES_MAX, 0),
		(uz_entry)UZ_CODEC_COUNT << 3 | 1 << 6,
		(uz_entry)6 << 3,
		UZ_ENTRY_DAMAGED | 1 << 6,
		UZ_ENTRY_UNUSED,
		UINT64_MAX,
		UINT64_MAX & ~UZ_ENTRY_LOCK,
	};
	const size_t nbad = sizeof(bad) / sizeof(bad[0]);

	put_page(nbad, PAGE_TEXT, 1);
	close_store();
	for (size_t slot = 0; slot < nbad; slot++)
		set_entry(slot, bad[slot]);
	open_store();
	for (size_t slot = 0; slot < nbad; slot++)
		assert_lost(slot);
	assert_page(nbad, PAGE_TEXT, 1);
	assert_int_equal(get_stat().corrupt, nbad);
	assert_int_equal(get_stat().pages_stored, nbad + 1);

	/* They stay lost, and are not counted again, until they are written or discarded. */
	reopen_store();
	assert_int_equal(get_stat().corrupt, 0);
	for (size_t slot = 0; slot < nbad; slot++) {
		assert_lost(slot);
		assert_int_equal(uz_write(worker, slot * PAGE, 1, "x"), -EIO);
		if (slot % 2)
			put_page(slot, PAGE_RANDOM, slot);
		else
			assert_int_equal(uz_discard(worker, slot * PAGE, PAGE), 0);
		assert_page(slot, slot % 2 ? PAGE_RANDOM : PAGE_ZERO, slot);
	}
	assert_int_equal(get_stat().failed_reads, nbad);
	assert_int_equal(get_stat().pages_stored, nbad / 2 + 1);
	assert_int_equal(get_stat().corrupt, 0);
}

/* Locks that a process held when it died. */
static void test_locks(void **state)
{
	for (uint64_t slot = 0; slot < FILLED; slot++) {
		if (slot % KINDS != PAGE_KINDS)
			put_page(slot, kind_of(slot), slot);
	}
	close_store();
	for (uint64_t slot = 0; slot < SLOTS; slot++)
		set_entry(slot, entry(slot) | UZ_ENTRY_LOCK);
	open_store();
	assert_int_equal(get_stat().pages_stored, FILLED - 3);
	assert_int_equal(get_stat().corrupt, 0);
	for (uint64_t slot = 0; slot < SLOTS; slot++) {
		assert_false(entry(slot) & UZ_ENTRY_LOCK);
		assert_page(slot, slot < FILLED ? kind_of(slot) : PAGE_ZERO, slot);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_object, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replacing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_live_inline_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_live_object_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_entry_bits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stolen_object, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stolen_zspage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_swapped_entries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_impossible_entries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_locks, setup, teardown),
	};

	return cmocka_run_group_tests_name("store, damage", tests, NULL, NULL);
}
