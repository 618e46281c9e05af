/* SPDX-License-Identifier: MIT
 *
 * Sizes as people write them: "8G", "ram / 2", "min(ram / 2, 8G)".
 *
 *   sum     = product { ("+" | "-") product }
 *   product = operand { ("*" | "/") operand }
 *   operand = number [ unit ] | "ram" | ("min" | "max") "(" sum { "," sum } ")" | "(" sum ")"
 *   unit    = ("K" | "M" | "G" | "T") [ "iB" ]
 *
 * Numbers are whole and decimal, units are powers of 1024 in either case. "GB" is refused: it means
 * 10^9 to some. The arithmetic is that of signed 64-bit integers, checked; a step may be negative
 * ("max(ram - 2G, 1G)"), the result may not. A quotient is cut towards zero.
 */
#ifndef UZD_SIZE_EXPR_H
#define UZD_SIZE_EXPR_H

#include <stdbool.h>
#include <stdint.h>

struct size_error {
	const char *what; /* static */
	unsigned column;  /* in bytes, the first is 1 */
};

/* Evaluate text on a machine with ram bytes (at most INT64_MAX). ret_over_ram says whether the text
 * mentions ram, so that its author can't be expected to know the result to the byte. -EINVAL, with
 * the first error in ret_error, if text is no such expression or has no such value. */
int size_expr_eval(const char *text, uint64_t ram, uint64_t *ret_bytes, bool *ret_over_ram,
		   struct size_error *ret_error);

#endif
