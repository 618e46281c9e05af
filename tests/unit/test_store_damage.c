/* SPDX-License-Identifier: MIT
 *
 * Damage: objects and slot entries that aren't what was written. A page may then be lost, but no
 * other page, and nobody gets wrong bytes.
 */
#include "store_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/futex.h"
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

/* Each of the object's bytes; none goes unnoticed, though some wouldn't matter to the decoder. */
static void damage_object(uint64_t slot, enum page_kind kind)
{
	unsigned char *object = uz_arena_ptr(arena, uz_entry_off(entry(slot)));
	size_t size = uz_entry_size(entry(slot));

	for (size_t i = 0; i < size; i++) {
		struct uz_store_stat before = get_stat(), after;
		unsigned char bit = (unsigned char)(1u << (i % 8));

		object[i] ^= bit;
		assert_lost(slot);
		object[i] ^= bit;
		after = get_stat();
		assert_int_equal(after.corrupt - before.corrupt, 1);
		assert_int_equal(after.failed_reads - before.failed_reads, 1);
		assert_int_equal(after.reads, before.reads);
	}
	assert_page(slot, kind, slot);
}

static void test_object(void **state)
{
	static const enum uz_codec codecs[] = {UZ_CODEC_LZ4, UZ_CODEC_ZSTD};

	for (unsigned c = 0; c < 2; c++) {
		close_store();
		config.codec = codecs[c];
		open_store();
		for (enum page_kind kind = PAGE_WORD; kind < PAGE_KINDS; kind++) {
			put_page(kind, kind, kind);
			damage_object(kind, kind);
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
		uint64_t before = get_stat().corrupt;
		uz_entry e;

		put_page(slot, kinds[slot], slot);
		e = entry(slot);
		for (unsigned bit = 3; bit < 64; bit++) {
			set_entry(slot, e ^ UINT64_C(1) << bit);
			assert_int_equal(right_or_eio(slot, kinds[slot], slot), false);
		}
		/* Out of bounds, and not to be freed either. */
		set_entry(slot,
			  e | (kinds[slot] == PAGE_RANDOM ? UINT64_C(1) << 31 : UINT64_C(1) << 60));
		assert_lost(slot);
		put_page(slot, PAGE_TEXT, 99);
		assert_page(slot, PAGE_TEXT, 99);
		uz_store_flush(store);
		assert_in_range(get_stat().corrupt - before, 60, 63);
	}
	assert_int_equal(uz_pool_check(store->pool), 0);
}

/* The memory of a slot's older page, freed and not used since, holds what has that slot's checksum.
 * An entry with a flipped bit may name it, and must not be taken for right. */
static void test_older_page(void **state)
{
	unsigned tried = 0;
	uint64_t off;
	size_t size;
	uz_entry e;

	put_page(1, PAGE_TEXT, 1);
	e = entry(1);
	off = uz_entry_off(e);
	size = uz_entry_size(e);
	for (unsigned bit = 18; bit < 62; bit++) {
		uint64_t older = off ^ (uint64_t)UZ_POOL_GRANULE << (bit - 18);

		if (older + size > uz_arena_data_size(arena) ||
		    (older < off + size && off < older + size))
			continue;
		memcpy(uz_arena_ptr(arena, older), uz_arena_ptr(arena, off), size);
		set_entry(1, e ^ UINT64_C(1) << bit);
		assert_int_equal(uz_entry_off(entry(1)), older);
		assert_lost(1);
		tried++;
	}
	assert_in_range(tried, 10, 62 - 18);
	set_entry(1, e);
	assert_page(1, PAGE_TEXT, 1);
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
	c = &store->pool->classes[uz_pool_class_number(store->pool, off, uz_entry_size(entry(1)))];
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

/* --- anything, anywhere --- */

#define ROUNDS 2000

/* What the first slots should hold. */
struct contents {
	struct rng rng;
	enum page_kind kinds[FILLED];
	uint64_t numbers[FILLED], last;
};

/* UZ_SEED in the environment replays a run. */
static void contents_init(struct contents *c)
{
	const char *text = getenv("UZ_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : uz_now_ns();

	print_message("UZ_SEED=%llu\n", (unsigned long long)seed);
	memset(c, 0, sizeof(*c));
	rng_init(&c->rng, seed, 0);
}

static void renew(struct contents *c, uint64_t slot)
{
	c->kinds[slot] = (enum page_kind)rng_below(&c->rng, PAGE_KINDS);
	c->numbers[slot] = ++c->last;
	put_page(slot, c->kinds[slot], c->numbers[slot]);
}

static void flip_bit(struct contents *c, void *from, uint64_t len)
{
	((unsigned char *)from)[rng_below(&c->rng, len)] ^= (unsigned char)(1u << c->last++ % 8);
}

static void damage_table(struct contents *c)
{
	uint64_t slot = rng_below(&c->rng, rng_below(&c->rng, 4) ? FILLED : SLOTS);

	atomic_fetch_xor(&uz_arena_table(arena)[slot], UINT64_C(1) << rng_below(&c->rng, 64));
}

static void damage_data(struct contents *c)
{
	uint64_t slot = rng_below(&c->rng, FILLED), span = uz_arena_data_size(arena) / 8;
	uz_entry e = entry(slot) & ~UZ_ENTRY_LOCK;

	/* Not what an entry damaged in the same round may name. */
	if (rng_below(&c->rng, 4) && uz_entry_has_object(e) &&
	    uz_entry_off(e) + uz_entry_size(e) <= uz_arena_data_size(arena))
		flip_bit(c, uz_arena_ptr(arena, uz_entry_off(e)), uz_entry_size(e));
	else
		flip_bit(c, uz_arena_ptr(arena, rng_below(&c->rng, 8) * span), span);
}

/* Up to three bits of the superblock: the arena is refused, and nothing else happens to it. */
static void damage_superblock(struct contents *c)
{
	struct uz_superblock good, bad;
	int fd = uz_arena_fd(arena);
	struct uz_arena *attached;

	assert_int_equal(pread(fd, &good, sizeof(good), 0), sizeof(good));
	bad = good;
	for (uint64_t bits = 1 + rng_below(&c->rng, 3); bits > 0; bits--)
		flip_bit(c, &bad, sizeof(bad));
	if (memcmp(&bad, &good, sizeof(bad)) == 0)
		return;
	assert_int_equal(pwrite(fd, &bad, sizeof(bad), 0), sizeof(bad));
	assert_int_equal(uz_arena_attach(fd, &attached), -EPROTO);
	assert_int_equal(pwrite(fd, &good, sizeof(good), 0), sizeof(good));
}

static void open_attached(void)
{
	struct uz_arena *attached;

	assert_int_equal(uz_arena_attach(uz_arena_fd(arena), &attached), 0);
	uz_arena_free(arena);
	arena = attached;
	open_store();
}

/* Read the slot, and change some of it. Both are right or fail, whichever they do. */
static bool use_slot(struct contents *c, uint64_t slot)
{
	unsigned char page[PAGE], want[PAGE];
	size_t from = rng_below(&c->rng, PAGE - 5);

	if (!right_or_eio(slot, c->kinds[slot], c->numbers[slot])) {
		assert_int_equal(uz_write(worker, slot * PAGE + from, 5, "hello"), -EIO);
		return false;
	}
	if (c->last % 16)
		return true;
	assert_int_equal(uz_write(worker, slot * PAGE + from, 5, "hello"), 0);
	make_page(c->kinds[slot], c->numbers[slot], want);
	memcpy(want + from, "hello", 5);
	assert_int_equal(read_slot(slot, page), 0);
	assert_memory_equal(page, want, PAGE);
	return false; /* it is another page now */
}

static void test_random_damage(void **state)
{
	struct contents c;
	unsigned lost = 0;

	contents_init(&c);
	for (uint64_t slot = 0; slot < FILLED; slot++)
		renew(&c, slot);
	for (unsigned round = 0; round < ROUNDS; round++) {
		close_store();
		damage_superblock(&c);
		for (uint64_t bits = 1 + rng_below(&c.rng, 4); bits > 0; bits--) {
			if (rng_below(&c.rng, 2))
				damage_table(&c);
			else
				damage_data(&c);
		}
		open_attached();
		assert_int_equal(uz_pool_check(store->pool), 0);
		for (uint64_t slot = 0; slot < FILLED; slot++) {
			if (use_slot(&c, slot))
				continue;
			lost++;
			renew(&c, slot);
			assert_page(slot, c.kinds[slot], c.numbers[slot]);
		}
		/* Elsewhere there may be entries out of nothing. */
		assert_int_equal(uz_discard(worker, FILLED * PAGE, (SLOTS - FILLED) * PAGE), 0);
		renew(&c, rng_below(&c.rng, FILLED));
	}
	assert_true(lost > ROUNDS / 2);
	assert_int_equal(uz_discard(worker, 0, FILLED * PAGE), 0);
	uz_store_flush(store);
	assert_int_equal(uz_pool_check(store->pool), 0);
	assert_int_equal(get_stat().mem_used, 0);
}

/* An offset far beyond all memory must not cost the allocator any of its own. */
static void test_far_entry(void **state)
{
	uint64_t span = uz_arena_data_size(arena) / UZ_UNIT_PAGES_MAX;
	uint64_t meta;

	put_page(1, PAGE_TEXT, 1);
	close_store();
	open_attached();
	meta = get_stat().meta_bytes;
	close_store();
	set_entry(0, uz_entry_raw(span - PAGE, 1));
	open_attached();
	assert_lost(0);
	assert_page(1, PAGE_TEXT, 1);
	assert_int_equal(get_stat().corrupt, 1);
	assert_in_range(get_stat().meta_bytes, 0, meta + (64 << 10));
}

static void test_truncated(void **state)
{
	struct uz_arena *attached;
	int fd = uz_arena_fd(arena);
	struct uz_superblock sb;
	struct contents c;
	struct stat st;

	contents_init(&c);
	close_store();
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pread(fd, &sb, sizeof(sb), 0), sizeof(sb));
	for (unsigned i = 0; i < 1000; i++) {
		/* Each order of magnitude is as likely as the others. */
		uint64_t mask = UINT64_MAX >> (23 + rng_below(&c.rng, 41));
		uint64_t len = rng_next(&c.rng) & mask;

		if (len == (uint64_t)st.st_size)
			continue;
		assert_int_equal(ftruncate(fd, (off_t)len), 0);
		assert_int_equal(uz_arena_attach(fd, &attached), -EPROTO);
		/* Only the size is to be wrong the next time. */
		assert_int_equal(pwrite(fd, &sb, sizeof(sb), 0), sizeof(sb));
	}
	assert_int_equal(ftruncate(fd, st.st_size), 0);
	open_attached();
}

/* --- a slot that stays locked --- */

enum { READ, WRITE, UPDATE, DISCARD, COMPACT, WAYS };

static void *touch_slot(void *arg)
{
	unsigned char page[PAGE] = {1};
	struct uz_worker *w;
	intptr_t err = 0;

	if (uz_worker_new(store, &w))
		return (void *)1;
	switch ((intptr_t)arg) {
	case READ:
		err = uz_read(w, PAGE, PAGE, page);
		break;
	case WRITE:
		err = uz_write(w, PAGE, PAGE, page);
		break;
	case UPDATE:
		err = uz_write(w, PAGE + 9, 1, page);
		break;
	case DISCARD: /* and its neighbours */
		err = uz_discard(w, 0, 3 * PAGE);
		break;
	case COMPACT:
		uz_store_compact(store);
		err = -EIO;
		break;
	}
	uz_worker_free(w);
	return (void *)err;
}

/* By a flipped bit: an error, not a hang, until a restart. */
static void test_stuck_slot(void **state)
{
	pthread_t threads[WAYS];
	uint64_t used;

	for (uint64_t slot = 0; slot < 200; slot++)
		put_page(slot, PAGE_TEXT, slot);
	assert_int_equal(uz_discard(worker, 5 * PAGE, 190 * PAGE), 0);
	uz_store_flush(store);
	used = get_stat().pages_stored;
	atomic_fetch_or(&uz_arena_table(arena)[1], UZ_ENTRY_LOCK);
	for (intptr_t i = 0; i < WAYS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, touch_slot, (void *)i), 0);
	for (unsigned i = 0; i < WAYS; i++) {
		void *err;

		pthread_join(threads[i], &err);
		assert_int_equal((intptr_t)err, -EIO);
	}
	assert_zero(0);
	assert_zero(2);
	assert_int_equal(get_stat().pages_stored, used - 2);
	assert_int_equal(get_stat().corrupt, 4);
	assert_int_equal(get_stat().failed_reads, 1);
	assert_int_equal(get_stat().failed_writes, 2);
	assert_int_equal(uz_pool_check(store->pool), 0);
	reopen_store();
	assert_page(1, PAGE_TEXT, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_object, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replacing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_live_inline_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_live_object_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_older_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_entry_bits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stolen_object, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stolen_zspage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_swapped_entries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_impossible_entries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_locks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_far_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stuck_slot, setup, teardown),
	};

	return cmocka_run_group_tests_name("store, damage", tests, NULL, NULL);
}
