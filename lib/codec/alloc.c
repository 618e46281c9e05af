/* SPDX-License-Identifier: MIT */
#include "codec/codec.h"

#include <stdlib.h>
#include <string.h>

void *uz_codec_alloc(size_t size)
{
	void *mem = malloc(size);

	/* Not calloc(): it leaves fresh pages, which would be faulted in later, on the I/O path.
	 * Not malloc() and memset() either: compilers make a calloc() of these two. */
	if (mem)
		explicit_bzero(mem, size);
	return mem;
}
