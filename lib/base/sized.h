/* SPDX-License-Identifier: MIT
 *
 * Structs over the boundary of the shared library: a program that was built with another version's
 * headers has structs of another size. New fields are added at the end, and 0 means what it meant
 * before there was the field. As the kernel does it for openat2(2).
 *
 * Each such struct begins with its size, a size_t, as its user knows it.
 */
#ifndef UZ_BASE_SIZED_H
#define UZ_BASE_SIZED_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static inline size_t uz_sized_size(const void *given)
{
	size_t size;

	memcpy(&size, given, sizeof(size));
	return size;
}

/* Take the struct that a program has given into our own, of own_size bytes. Fields that the program
 * does not know are 0. -EINVAL: its size was not set. -E2BIG: it uses fields that we do not know.
 */
static inline int uz_sized_take(void *own, size_t own_size, const void *given)
{
	size_t size = uz_sized_size(given);

	if (size < sizeof(size))
		return -EINVAL;
	for (size_t i = own_size; i < size; i++) {
		if (((const unsigned char *)given)[i])
			return -E2BIG;
	}
	memset(own, 0, own_size);
	memcpy(own, given, size < own_size ? size : own_size);
	return 0;
}

/* Give our own struct to a program, in a struct that has its size set. Fields that we do not know
 * are 0; the size becomes that of what we have filled in. */
static inline void uz_sized_give(void *given, const void *own, size_t own_size)
{
	size_t size = uz_sized_size(given), filled = size < own_size ? size : own_size;

	if (size < sizeof(size))
		return;
	memset(given, 0, size);
	memcpy(given, own, filled);
	memcpy(given, &filled, sizeof(filled));
}

#endif
