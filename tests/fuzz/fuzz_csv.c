/* SPDX-License-Identifier: Apache-2.0 */
/* Input: byte 0 says where the label stands, the rest is the text. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/dataset_ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct sl_dataset d;
    struct sl_err err;
    if (sl_csv_parse("csv", (const char *)data + 1, size - 1, data[0] & 1, &d, &err) != SL_OK)
        return 0;
    if (sl_dataset_finite(&d, "csv", &err) != SL_OK)
        abort();
    for (size_t i = 0; i < d.n; i++)
        if (d.labels[i] < 0 || (uint32_t)d.labels[i] >= d.n_classes)
            abort();
    sl_dataset_deinit(&d);
    return 0;
}
