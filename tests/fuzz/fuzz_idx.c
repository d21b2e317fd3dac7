/* SPDX-License-Identifier: Apache-2.0 */
/* Input: byte 0 chooses which rows are asked for, bytes 1 and 2 say how many of the following are
 * the labels file, the rest is the images file. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/dataset_ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    size_t n_labels = (size_t)data[1] << 8 | data[2];
    if (n_labels > size - 3)
        n_labels = size - 3;
    const struct sl_idx_input in = {
        .images_where = "images",
        .labels_where = "labels",
        .labels = data + 3,
        .n_labels = n_labels,
        .images = data + 3 + n_labels,
        .n_images = size - 3 - n_labels,
    };
    const uint32_t index[2] = {data[0] & 7, (data[0] & 7) + 1u + (data[0] >> 5)};
    struct sl_rows rows = {0};
    if (data[0] & 8)
        rows.limit = 3;
    if (data[0] & 16) {
        rows.index = index;
        rows.n = 2;
    }
    struct sl_dataset d;
    struct sl_err err;
    if (sl_idx_parse(&in, &rows, &d, &err) != SL_OK)
        return 0;
    float *x = malloc(sl_dataset_values(&d) * sizeof(*x));
    const uint32_t last = (uint32_t)(d.n - 1);
    int32_t y;
    sl_dataset_gather(&d, &last, 1, x, &y);
    if (y < 0 || (uint32_t)y >= d.n_classes)
        abort();
    free(x);
    sl_dataset_deinit(&d);
    return 0;
}
