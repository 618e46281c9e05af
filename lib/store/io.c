/* SPDX-License-Identifier: MIT
 *
 * Ranges of bytes are cut into slots.
 */
#include <errno.h>

#include "store/internal.h"

/* The part of a range that lies in one slot. */
struct piece {
	uint64_t slot;
	size_t from, len;
};

/* The first piece of the len bytes from off; len > 0. */
static struct piece first_piece(uint64_t off, uint64_t len)
{
	struct piece p = {.slot = off >> UZ_PAGE_SHIFT, .from = off % UZ_PAGE_SIZE};

	p.len = UZ_PAGE_SIZE - p.from;
	if (p.len > len)
		p.len = (size_t)len;
	return p;
}

static int check_range(struct uz_worker *w, uint64_t off, uint64_t len)
{
	uint64_t size = uz_store_disksize(w->store);

	if (off <= size && len <= size - off)
		return 0;
	count(&w->counters, N_INVALID, 1);
	return -EINVAL;
}

int uz_read(struct uz_worker *w, uint64_t off, size_t len, void *buf)
{
	unsigned char *to = buf;
	int err = check_range(w, off, len);

	while (!err && len) {
		struct piece p = first_piece(off, len);

		err = uz_slot_read(w, p.slot, p.from, p.len, to);
		off += p.len;
		len -= p.len;
		to += p.len;
	}
	return err;
}

int uz_write(struct uz_worker *w, uint64_t off, size_t len, const void *buf)
{
	const unsigned char *from = buf;
	int err = check_range(w, off, len);

	while (!err && len) {
		struct piece p = first_piece(off, len);

		err = p.len == UZ_PAGE_SIZE ? uz_slot_write(w, p.slot, from)
					    : uz_slot_update(w, p.slot, p.from, p.len, from);
		off += p.len;
		len -= p.len;
		from += p.len;
	}
	return err;
}

int uz_discard(struct uz_worker *w, uint64_t off, uint64_t len)
{
	int err = check_range(w, off, len), ret = err;

	/* A damaged page must not keep the others from being discarded. */
	while ((!err || err == -EIO) && len) {
		struct piece p = first_piece(off, len);

		err = p.len == UZ_PAGE_SIZE ? uz_slot_discard(w, p.slot)
					    : uz_slot_update(w, p.slot, p.from, p.len, NULL);
		if (err)
			ret = err;
		off += p.len;
		len -= p.len;
	}
	return ret;
}
