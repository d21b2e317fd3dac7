/* SPDX-License-Identifier: Apache-2.0 */
/* Input: byte 0 chooses which rows are asked for, the rest is a file of records. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/dataset_ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const uint32_t index[1] = {data[0] & 3};
    struct sl_rows rows = {.limit = 64};
    if (data[0] & 4) {
        rows.index = index;
        rows.n = 1;
    }
    struct sl_dataset d;
    struct sl_err err;
    if (sl_cifar_parse("cifar", data + 1, size - 1, &rows, &d, &err) != SL_OK)
        return 0;
    for (size_t i = 0; i < d.n; i++)
        if (d.labels[i] < 0 || (uint32_t)d.labels[i] >= d.n_classes)
            abort();
    sl_dataset_deinit(&d);
    return 0;
}
