/* SPDX-License-Identifier: MIT */
#include "codec/codec.h"

#include <stdlib.h>
#include <string.h>

void *uz_codec_alloc(size_t size)
{
	void *mem = malloc(size);

	/* Neither calloc(), which leaves fresh pages to be faulted in later, nor memset(), of which
	 * and malloc() compilers make a calloc(). */
	if (mem)
		explicit_bzero(mem, size);
	return mem;
}
