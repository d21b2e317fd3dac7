/* SPDX-License-Identifier: Apache-2.0 */
#include "common/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

size_t sl_text_character(const char *s)
{
    const unsigned char *b = (const unsigned char *)s;
    if (b[0] < 0x80)
        return 1;
    if (b[0] < 0xc2 || b[0] > 0xf4)
        return 0;
    size_t n = b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    uint32_t c = b[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (b[i] & 0x3fu);
    }
    bool shortest = c >= (n == 4 ? 0x10000u : n == 3 ? 0x800u : 0x80u);
    return shortest && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff) ? n : 0;
}

void sl_text_copy(char *dst, size_t cap, const char *src)
{
    size_t at = 0;
    while (*src != '\0') {
        size_t n = sl_text_character(src), step = n == 0 ? 1 : n;
        if (at + step >= cap)
            break;
        if (n == 0)
            dst[at] = '?';
        else
            memmove(dst + at, src, n);
        at += step;
        src += step;
    }
    dst[at] = '\0';
}
