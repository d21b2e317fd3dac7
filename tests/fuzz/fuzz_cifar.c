/* SPDX-License-Identifier: Apache-2.0 */
/* Input: byte 0 chooses samples, byte 1 how the files lie, the rest is a file of records.
 * It is read from memory and through the loaders, as the test set and as each of the five
 * files of the training set: what reads must be the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/dataset_ops.h"
#include "tests/fuzz/datasets.h"
#include "tests/fuzz/files.h"

#define LIMIT 100 /* of a file that inflates to much */

enum { TEST = 1, GZIP = 2, FEW_CLASSES = 4, NO_PATH = 8, SHORT = 16, ONE_MISSING = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool parse(const uint8_t *bytes, size_t n, const struct sl_rows *rows,
                  struct sl_dataset *ret)
{
    struct sl_err err;
    enum sl_code rc = sl_cifar_parse("cifar", bytes, n, rows, ret, &err);
    fuzz_check_line(rc, &err);
    if (rc == SL_OK)
        fuzz_check_dataset(ret);
    return rc == SL_OK;
}

/* whole: the first LIMIT records, or NULL when they do not parse. */
static void check_folder(const uint8_t *bytes, size_t n, uint8_t pick, uint8_t ways,
                         const struct sl_dataset *whole)
{
    struct fuzz_folder folder;
    fuzz_folder_open(&folder);
    for (int i = 0; i < (ways & TEST ? 1 : 5) - (ways & ONE_MISSING ? 1 : 0); i++) {
        char name[32];
        snprintf(name, sizeof(name), ways & TEST ? "test_batch.bin" : "data_batch_%d.bin",
                 i + 1);
        if (ways & GZIP)
            fuzz_folder_put_gzip(&folder, name, bytes, n);
        else
            fuzz_folder_put(&folder, name, bytes, n);
    }
    const struct sl_dataset_source src = {
        .kind = "cifar10",
        .path = ways & NO_PATH ? "" : folder.path,
        .split = ways & TEST ? SL_SPLIT_TEST : SL_SPLIT_TRAIN,
        .limit = ways & SHORT ? 3 : LIMIT,
        .n_classes = ways & FEW_CLASSES ? 3 : 0,
    };
    struct sl_dataset d;
    if (fuzz_load(&src, pick & 3, pick >> 4, &d)) {
        for (size_t i = 0; i < d.n && whole != NULL; i++)
            fuzz_check_same_sample(&d, i, whole, i % whole->n);
        sl_dataset_deinit(&d);
    } else {
        fuzz_must(whole == NULL || ways & (NO_PATH | FEW_CLASSES | ONE_MISSING));
    }
    fuzz_folder_close(&folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const uint32_t index[1] = {data[0] & 3};
    const struct sl_rows all = {.limit = LIMIT},
                         one = {.limit = LIMIT, .index = index, .n = 1};
    struct sl_dataset whole, some;
    bool parsed = parse(data + 2, size - 2, &all, &whole);
    if (parse(data + 2, size - 2, &one, &some)) {
        if (parsed)
            fuzz_check_same_sample(&some, 0, &whole, index[0]);
        sl_dataset_deinit(&some);
    }
    check_folder(data + 2, size - 2, data[0], data[1], parsed ? &whole : NULL);
    if (parsed)
        sl_dataset_deinit(&whole);
    return 0;
}
