/* SPDX-License-Identifier: Apache-2.0 */
/* Input: byte 0 is the number of columns less one (0 to 3), the rest is the text, read
 * from memory and from a file. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sim/trace.h"
#include "tests/fuzz/files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct sl_trace t, again;
    struct sl_err err;
    struct fuzz_file file;
    size_t columns = 1 + data[0] % 4;
    enum sl_code rc =
        sl_trace_parse("trace", (const char *)data + 1, size - 1, columns, &t, &err);
    fuzz_check_line(rc, &err);
    fuzz_file_open(&file, data + 1, size - 1);
    fuzz_must(sl_trace_load(file.path, columns, &again, NULL) == rc);
    fuzz_file_close(&file);
    if (rc != SL_OK)
        return 0;
    fuzz_must(t.n_rows > 0 && t.n_columns == columns && again.n_rows == t.n_rows);
    for (size_t i = 0; i < t.n_rows * columns; i++)
        fuzz_must(isfinite(t.value[i]) && t.value[i] > 0);
    fuzz_must(memcmp(t.value, again.value, t.n_rows * columns * sizeof(*t.value)) == 0);
    sl_trace_deinit(&t);
    sl_trace_deinit(&again);
    return 0;
}
