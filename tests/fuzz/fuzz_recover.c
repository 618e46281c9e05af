/* SPDX-License-Identifier: MIT
 *
 * A small device whose arena holds anything: the input is a list of commands, each a letter and its
 * operands. Those before "|" use the device as they should; those behind it damage what the process
 * has left, its slot table up to all of it. Other letters are skipped.
 *
 *   w SLOT KIND    write a page            e SLOT ENTRY     set an entry (8 bytes)
 *   p SLOT FROM    write a part of one     x SLOT BIT       flip a bit of it
 *   d SLOT         discard                 l SLOT           lock it
 *                                          c SLOT SLOT      copy the second to the first
 *                                          n SLOT SLOT M N  make it name M * 8 bytes further than
 *                                                           the second does, N bytes more
 *                                          t SLOT N ...     N entries
 *                                          o SLOT FROM XOR  a byte of an object
 *                                          m OFF BYTE       a byte of the data
 *
 * Recovery succeeds whatever it finds. Each page that was not damaged is there, unless an entry
 * that was made up has a right checksum and took its memory; of the others each read is a page or
 * -EIO, the same before and after compaction. Every slot can be written and discarded, figures and
 * pool agree with the slot table throughout, and in the end there is nothing, also for the next
 * process.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>

#include "../model/pages.h"
#include "store/internal.h"

#define PAGE  ((size_t)UZ_PAGE_SIZE)
#define SLOTS 32u

/* Of the arena: what it was made by. Used to look at it and to damage it while no store has it. */
static struct uz_arena *base;

/* The process that serves it. */
static struct uz_arena *arena;
static struct uz_store *store;
static struct uz_worker *worker;

/* What a slot should hold. */
static struct slot {
	unsigned char page[PAGE];
	int err; /* of reading it */
	/* When the first process ended. */
	uz_entry entry;
	unsigned char object[PAGE];
	bool same_entry, intact;
} slots[SLOTS];

static uint64_t corrupt; /* that the store should have counted */

static uz_entry entry(unsigned slot)
{
	return atomic_load(&uz_arena_table(base)[slot]);
}

static void set_entry(unsigned slot, uz_entry e)
{
	atomic_store(&uz_arena_table(base)[slot], e);
}

/* --- the process --- */

static void start(uint8_t flags)
{
	struct uz_store_config config = {
		.size = sizeof(config),
		.codec = flags & 1 ? UZ_CODEC_ZSTD : UZ_CODEC_LZ4,
		.level = 1,
		.reserve = 256 * PAGE,
		.populators = 1, /* nothing else is to be served */
		.deferred = flags & 2,
		.defer_spares = 1,
		.defer_age_ms = 10,
	};

	REQUIRE(!uz_arena_attach(uz_arena_fd(base), &arena), "attach");
	config.arena = arena;
	REQUIRE(!uz_store_new(&config, &store), "recovery");
	REQUIRE(!uz_worker_new(store, &worker), "worker");
}

static void end(void)
{
	uz_worker_free(worker);
	uz_store_free(store);
	uz_arena_free(arena);
}

/* The figures, against the slot table. */
static void check_state(void)
{
	struct uz_store_stat st, want = {0};

	uz_store_flush(store);
	uz_store_stat(store, &st);
	for (unsigned i = 0; i < SLOTS; i++) {
		uz_entry e = entry(i);

		REQUIRE(!(e & UZ_ENTRY_LOCK), "slot %u is locked", i);
		want.pages_stored += e != 0;
		want.same_pages += uz_entry_codec(e) == UZ_CODEC_SAME;
		want.huge_pages += uz_entry_codec(e) == UZ_CODEC_RAW;
		if (uz_entry_has_object(e) && uz_entry_codec(e) != UZ_CODEC_SAME)
			want.compr_bytes += uz_entry_len(e);
	}
	REQUIRE(!uz_pool_check(store->pool), "the pool");
	REQUIRE(st.pages_stored == want.pages_stored, "%zu pages", (size_t)st.pages_stored);
	REQUIRE(st.same_pages == want.same_pages, "%zu same", (size_t)st.same_pages);
	REQUIRE(st.huge_pages == want.huge_pages, "%zu huge", (size_t)st.huge_pages);
	REQUIRE(st.compr_bytes == want.compr_bytes, "%zu bytes", (size_t)st.compr_bytes);
	REQUIRE(!st.defer_pending_bytes, "%zu pending", (size_t)st.defer_pending_bytes);
	REQUIRE(st.corrupt == corrupt, "%zu corrupt, not %zu", (size_t)st.corrupt, (size_t)corrupt);
}

static void read_slot(unsigned slot)
{
	struct slot *s = &slots[slot];
	unsigned char page[PAGE];

	corrupt += s->err && !uz_entry_damaged(entry(slot));
	REQUIRE(uz_read(worker, slot * PAGE, PAGE, page) == s->err, "slot %u", slot);
	REQUIRE(s->err || !memcmp(page, s->page, PAGE), "slot %u holds another page", slot);
}

static void read_all(void)
{
	for (unsigned i = 0; i < SLOTS; i++)
		read_slot(i);
}

static void write_page(unsigned slot, enum page_kind kind)
{
	struct rng rng;

	rng_init(&rng, kind, slot);
	page_fill(slots[slot].page, kind, &rng);
	slots[slot].err = uz_write(worker, slot * PAGE, PAGE, slots[slot].page);
	REQUIRE(!slots[slot].err, "write to slot %u: %d", slot, slots[slot].err);
}

static void write_part(unsigned slot, size_t from)
{
	struct slot *s = &slots[slot];

	corrupt += s->err && !uz_entry_damaged(entry(slot));
	REQUIRE(uz_write(worker, slot * PAGE + from, 5, "hello") == s->err, "slot %u", slot);
	memcpy(s->page + from, "hello", 5);
}

static void discard(unsigned slot)
{
	REQUIRE(!uz_discard(worker, slot * PAGE, PAGE), "discard slot %u", slot);
	memset(slots[slot].page, 0, PAGE);
	slots[slot].err = 0;
}

static void use(struct input *in)
{
	while (in->left) {
		uint8_t command = input_byte(in);
		uint8_t slot;

		if (command == '|')
			return;
		if (!command || !strchr("wpd", command))
			continue;
		slot = input_byte(in) % SLOTS;
		if (command == 'w')
			write_page(slot, input_byte(in) % PAGE_KINDS);
		else if (command == 'p')
			write_part(slot, input_byte(in) * 16);
		else
			discard(slot);
	}
}

/* --- damage --- */

/* What the entry's object is, as far as it has one. */
static size_t object_of(uz_entry e, unsigned char **ret)
{
	*ret = NULL;
	e &= ~UZ_ENTRY_LOCK;
	if (!uz_entry_has_object(e) ||
	    uz_entry_off(e) + uz_entry_size(e) > uz_arena_data_size(base))
		return 0;
	*ret = uz_arena_ptr(base, uz_entry_off(e));
	return uz_entry_size(e);
}

static void remember(void)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		unsigned char *object;
		size_t size = object_of(entry(i), &object);

		slots[i].entry = entry(i);
		if (size)
			memcpy(slots[i].object, object, size);
	}
}

static void compare(void)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		unsigned char *object;
		size_t size = object_of(slots[i].entry, &object);

		slots[i].same_entry = (entry(i) & ~UZ_ENTRY_LOCK) == slots[i].entry;
		slots[i].intact =
			slots[i].same_entry && (!size || !memcmp(object, slots[i].object, size));
	}
}

/* What could be the entry of an object near e's. */
static uz_entry neighbour(uz_entry e, int granules, int longer)
{
	uint64_t off = uz_entry_off(e) + (uint64_t)(granules * (int)UZ_POOL_GRANULE);
	size_t len = (uz_entry_len(e) + (size_t)longer) % UZ_PAGE_SIZE;

	if (uz_entry_codec(e) == UZ_CODEC_RAW)
		return uz_entry_raw(off, uz_entry_raw_sum(e));
	return uz_entry_object((enum uz_codec)uz_entry_codec(e), off, len ? len : 1);
}

static void damage_object(unsigned slot, size_t from, uint8_t change)
{
	unsigned char *object;
	size_t size = object_of(entry(slot), &object);

	if (size)
		object[from % size] ^= change;
}

static void damage_data(struct input *in)
{
	unsigned char *byte;
	uint32_t off;

	input_take(in, &off, sizeof(off));
	byte = uz_arena_ptr(base, off % uz_arena_data_size(base));
	*byte = input_byte(in);
}

static void damage_table(struct input *in, unsigned slot)
{
	for (unsigned n = input_byte(in); n && in->left; n--, slot++) {
		uz_entry e;

		input_take(in, &e, sizeof(e));
		set_entry(slot % SLOTS, e);
	}
}

static uz_entry damage_neighbour(struct input *in)
{
	uz_entry e = entry(input_byte(in) % SLOTS) & ~UZ_ENTRY_LOCK;
	int8_t granules = (int8_t)input_byte(in), longer = (int8_t)input_byte(in);

	return uz_entry_has_object(e) ? neighbour(e, granules, longer) : e;
}

static void damage(struct input *in)
{
	while (in->left) {
		uint8_t command = input_byte(in);
		unsigned slot;
		uz_entry e;

		if (command == 'm')
			damage_data(in);
		if (!command || !strchr("exlcnto", command))
			continue;
		slot = input_byte(in) % SLOTS;
		e = entry(slot);
		if (command == 'e')
			input_take(in, &e, sizeof(e));
		else if (command == 'x')
			e ^= UINT64_C(1) << input_byte(in) % 64;
		else if (command == 'l')
			e |= UZ_ENTRY_LOCK;
		else if (command == 'c')
			e = entry(input_byte(in) % SLOTS);
		else if (command == 'n')
			e = damage_neighbour(in);
		set_entry(slot, e);
		if (command == 't')
			damage_table(in, slot);
		else if (command == 'o')
			damage_object(slot, input_byte(in) * 16, input_byte(in));
	}
}

/* --- what recovery makes of it --- */

/* What there is now is to stay so. Returns whether an entry that was made up has a right object,
 * which may have been at the cost of another. */
static bool take_stock(void)
{
	bool intruded = false;

	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *s = &slots[i];
		unsigned char page[PAGE];

		s->err = uz_read(worker, i * PAGE, PAGE, page);
		REQUIRE(!s->err || s->err == -EIO, "%d", s->err);
		corrupt += s->err && !uz_entry_damaged(entry(i));
		intruded |= !s->err && !s->same_entry && uz_entry_has_object(entry(i));
		if (!s->err && s->same_entry)
			REQUIRE(s->intact && !memcmp(page, s->page, PAGE),
				"slot %u is not what was written", i);
		memcpy(s->page, page, PAGE);
	}
	return intruded;
}

static void recover(uint8_t flags)
{
	uz_entry found[SLOTS];
	bool intruded;

	for (unsigned i = 0; i < SLOTS; i++)
		found[i] = entry(i) & ~UZ_ENTRY_LOCK;
	start(flags);
	for (unsigned i = 0; i < SLOTS; i++) {
		bool marked = entry(i) == UZ_ENTRY_DAMAGED;

		REQUIRE(marked || entry(i) == found[i], "slot %u's entry has changed", i);
		corrupt += marked && found[i] != UZ_ENTRY_DAMAGED;
	}
	check_state();
	intruded = take_stock();
	for (unsigned i = 0; i < SLOTS; i++)
		REQUIRE(!slots[i].err || !slots[i].intact || intruded, "slot %u is lost", i);
}

/* Every slot is used in one way or another. */
static void use_all(void)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		if (i % 3 == 0)
			write_part(i, i * 16);
		else if (i % 3 == 1)
			write_page(i, i % PAGE_KINDS);
		else
			discard(i);
	}
}

static void leave_nothing(void)
{
	struct uz_store_stat st;

	for (unsigned i = 0; i < SLOTS; i++)
		discard(i);
	check_state();
	uz_store_stat(store, &st);
	REQUIRE(!st.pages_stored && !st.mem_used, "%zu pages, %zu bytes", (size_t)st.pages_stored,
		(size_t)st.mem_used);
}

/* --- */

static void set_up(void)
{
	REQUIRE(!uz_arena_new(SLOTS * PAGE, &base), "no arena");
}

/* As it was new. */
static void reset(void)
{
	off_t data = (char *)uz_arena_ptr(base, 0) - (char *)uz_arena_table(base) + (off_t)PAGE;

	for (unsigned i = 0; i < SLOTS; i++)
		set_entry(i, 0);
	REQUIRE(!fallocate(uz_arena_fd(base), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, data,
			   (off_t)uz_arena_data_size(base)),
		"punch");
	memset(slots, 0, sizeof(slots));
	corrupt = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	uint8_t flags = input_byte(&in);

	if (!base)
		set_up();
	reset();
	start(flags);
	use(&in);
	check_state();
	end();

	remember();
	damage(&in);
	compare();
	recover(flags);
	uz_store_compact(store);
	check_state();
	read_all();
	use_all();
	check_state();
	read_all();
	leave_nothing();
	end();
	if (flags & 4)
		return 0;

	start(flags);
	corrupt = 0;
	check_state();
	read_all();
	end();
	return 0;
}
