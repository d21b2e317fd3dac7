/* SPDX-License-Identifier: Apache-2.0 */
/* Input: byte 0 is the kind, the rest the text. What is accepted must come back equal when it is
 * written and read again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/index_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const enum sl_index_file kind = (enum sl_index_file)(data[0] % 3);
    struct sl_index_table a, b;
    struct sl_err err;
    if (sl_index_parse(kind, "text", (const char *)data + 1, size - 1, &a, &err) != SL_OK)
        return 0;
    size_t n;
    char *text = sl_index_format(kind, &a, &n);
    if (text == NULL || sl_index_parse(kind, "text", text, n, &b, &err) != SL_OK)
        abort();
    size_t values = a.offset[a.n_rows];
    if (a.n_rows != b.n_rows || memcmp(a.id, b.id, a.n_rows * sizeof(*a.id)) != 0 ||
        memcmp(a.offset, b.offset, (a.n_rows + 1) * sizeof(*a.offset)) != 0 ||
        memcmp(a.value, b.value, values * sizeof(*a.value)) != 0)
        abort();
    free(text);
    sl_index_table_deinit(&a);
    sl_index_table_deinit(&b);
    return 0;
}
