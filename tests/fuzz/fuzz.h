/* SPDX-License-Identifier: MIT
 *
 * What the fuzzers share. Each is a libFuzzer target (https://llvm.org/docs/LibFuzzer.html): one
 * function that gets an input, and ends the process if something does not hold. run.sh runs it.
 */
#ifndef UZ_TESTS_FUZZ_H
#define UZ_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What must hold; the rest is printf()'s, and says what does not. */
#define REQUIRE(condition, ...)                                                                    \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);            \
			fprintf(stderr, __VA_ARGS__);                                              \
			fputc('\n', stderr);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* An input that is read from the front. Behind its end there are zeroes. */
struct input {
	const uint8_t *at;
	size_t left;
};

static inline void input_take(struct input *in, void *ret, size_t len)
{
	size_t n = len < in->left ? len : in->left;

	memset(ret, 0, len);
	if (n)
		memcpy(ret, in->at, n);
	in->at += n;
	in->left -= n;
}

static inline uint8_t input_byte(struct input *in)
{
	uint8_t byte;

	input_take(in, &byte, sizeof(byte));
	return byte;
}

#endif
