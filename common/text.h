/* SPDX-License-Identifier: Apache-2.0 */
/* text.h - texts that come from elsewhere: cut and made valid UTF-8, so that they can stand in JSON, in a
 * message and on a terminal's line. Thread: any. Owns nothing. */
#ifndef SL_COMMON_TEXT_H
#define SL_COMMON_TEXT_H

#include <stddef.h>

/* Bytes (1 to 4) of the UTF-8 character at s, the shortest form of a code point that is no surrogate and
 * at most 0x10ffff; 0 when there is none. s ends with a zero, which counts as a character. */
size_t sl_text_character(const char *s);

/* Copies as many whole characters of src to dst[0..cap-1] (cap >= 1) as fit before the closing zero. Each
 * byte that begins no character becomes '?'. dst is src, or does not overlap it. */
void sl_text_copy(char *dst, size_t cap, const char *src);

#endif
