/* SPDX-License-Identifier: Apache-2.0 */
/* Input: byte 0 says where the label stands and how the file lies, the rest is the text.
 * It is read from memory and through the loader: as a folder it must be the same, as one
 * file its two splits must have each row once. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/dataset_ops.h"
#include "tests/fuzz/datasets.h"
#include "tests/fuzz/files.h"

enum {
    LABEL_FIRST = 1,
    TEST = 2,
    GZIP = 4,
    FEW_CLASSES = 8,
    SHORT = 16,
    NO_PATH = 32,
    OTHER_SPLIT = 64
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_folder(uint8_t ways, const uint8_t *text, size_t n,
                         const struct sl_dataset *whole)
{
    struct fuzz_folder folder;
    fuzz_folder_open(&folder);
    const char *name = !(ways & TEST) == !(ways & OTHER_SPLIT) ? "train.csv" : "test.csv";
    if (ways & GZIP)
        fuzz_folder_put_gzip(&folder, name, text, n);
    else
        fuzz_folder_put(&folder, name, text, n);
    const struct sl_dataset_source src = {
        .kind = "csv",
        .path = ways & NO_PATH ? "" : folder.path,
        .split = ways & TEST ? SL_SPLIT_TEST : SL_SPLIT_TRAIN,
        .limit = ways & SHORT ? 3 : 0,
        .n_classes = ways & FEW_CLASSES ? 3 : 0,
        .label_first = ways & LABEL_FIRST,
    };
    struct sl_dataset d;
    if (fuzz_load(&src, ways & 1, ways >> 7, &d)) {
        fuzz_must(whole != NULL && d.n <= whole->n);
        for (size_t i = 0; i < d.n; i++)
            fuzz_check_same_sample(&d, i, whole, i);
        fuzz_must(d.n == whole->n || (d.n == 3 && ways & SHORT));
        sl_dataset_deinit(&d);
    } else {
        fuzz_must(whole == NULL || ways & (NO_PATH | FEW_CLASSES | OTHER_SPLIT));
    }
    fuzz_folder_close(&folder);
}

/* Rows of a split of one file; each must be a row of the text, in its order. */
static size_t check_split(const char *path, enum sl_dataset_split split, bool label_first,
                          const struct sl_dataset *whole)
{
    const struct sl_dataset_source src = {
        .kind = "csv", .path = path, .split = split, .label_first = label_first};
    struct sl_dataset d;
    if (!fuzz_load(&src, 0, 0, &d))
        return 0;
    fuzz_must(whole != NULL && d.n <= whole->n && d.n_classes == whole->n_classes);
    size_t n = d.n;
    sl_dataset_deinit(&d);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const uint8_t *text = data + 1;
    struct sl_dataset d;
    struct sl_err err;
    enum sl_code rc = sl_csv_parse("csv", (const char *)text, size - 1,
                                   data[0] & LABEL_FIRST, &d, &err);
    fuzz_check_line(rc, &err);
    const struct sl_dataset *whole = rc == SL_OK ? &d : NULL;
    if (whole != NULL)
        fuzz_check_dataset(whole);
    bool packed = size > 2 && text[0] == 0x1f && text[1] == 0x8b;
    if (!packed) { /* from memory, gzip is not undone */
        check_folder(data[0], text, size - 1, whole);
        struct fuzz_file file;
        fuzz_file_open(&file, text, size - 1);
        size_t n = check_split(file.path, SL_SPLIT_TRAIN, data[0] & LABEL_FIRST, whole) +
                   check_split(file.path, SL_SPLIT_TEST, data[0] & LABEL_FIRST, whole);
        fuzz_must(n == (whole == NULL ? 0 : whole->n));
        fuzz_file_close(&file);
    }
    if (whole != NULL)
        sl_dataset_deinit(&d);
    return 0;
}
