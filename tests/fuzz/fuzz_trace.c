/* SPDX-License-Identifier: Apache-2.0 */
/* Input: byte 0 is the number of columns less one (0 to 3), the rest is the text. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "sim/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct sl_trace t;
    struct sl_err err;
    size_t columns = 1 + data[0] % 4;
    if (sl_trace_parse("trace", (const char *)data + 1, size - 1, columns, &t, &err) !=
        SL_OK)
        return 0;
    if (t.n_rows == 0 || t.n_columns != columns)
        abort();
    for (size_t i = 0; i < t.n_rows * columns; i++)
        if (!isfinite(t.value[i]) || t.value[i] <= 0)
            abort();
    sl_trace_deinit(&t);
    return 0;
}
