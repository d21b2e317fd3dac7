/* SPDX-License-Identifier: Apache-2.0 */
/* Input: byte 0 is the kind, the rest the text. From a file it must read the same, and
 * what is accepted must come back equal when it is written and read again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/index_file.h"
#include "tests/fuzz/files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_equal(const struct sl_index_table *a, const struct sl_index_table *b)
{
    fuzz_must(a->n_rows == b->n_rows && a->n_rows > 0);
    size_t values = a->offset[a->n_rows];
    fuzz_must(memcmp(a->id, b->id, a->n_rows * sizeof(*a->id)) == 0 &&
              memcmp(a->offset, b->offset, (a->n_rows + 1) * sizeof(*a->offset)) == 0 &&
              memcmp(a->value, b->value, values * sizeof(*a->value)) == 0);
}

/* Every id is found, the number behind the last is not. */
static void check_find(const struct sl_index_table *t)
{
    size_t n;
    for (size_t r = 0; r < t->n_rows; r++) {
        fuzz_must(r == 0 || t->id[r] > t->id[r - 1]);
        fuzz_must(sl_index_find(t, t->id[r], &n) == t->value + t->offset[r] &&
                  n == t->offset[r + 1] - t->offset[r] && n > 0);
    }
    fuzz_must(sl_index_find(t, t->id[t->n_rows - 1] + 1, &n) == NULL && n == 0);
}

static void check_written(enum sl_index_file kind, const struct sl_index_table *t)
{
    struct sl_index_table again;
    size_t n;
    char *text = sl_index_format(kind, t, &n);
    fuzz_must(text != NULL && strlen(text) == n);
    fuzz_must(sl_index_parse(kind, "text", text, n, &again, NULL) == SL_OK);
    check_equal(t, &again);
    free(text);
    sl_index_table_deinit(&again);
}

static void check_file(enum sl_index_file kind, const uint8_t *text, size_t n,
                       const struct sl_index_table *whole)
{
    struct fuzz_file file;
    struct sl_index_table t;
    struct sl_err err;
    fuzz_file_open(&file, text, n);
    enum sl_code rc = sl_index_load(kind, file.path, &t, &err);
    fuzz_check_line(rc, &err);
    bool packed = n >= 2 && text[0] == 0x1f && text[1] == 0x8b;
    fuzz_must(packed || (rc == SL_OK) == (whole != NULL));
    if (rc == SL_OK) {
        if (whole != NULL)
            check_equal(whole, &t);
        sl_index_table_deinit(&t);
    }
    fuzz_file_close(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const enum sl_index_file kind = (enum sl_index_file)(data[0] % 3);
    struct sl_index_table t;
    struct sl_err err;
    enum sl_code rc =
        sl_index_parse(kind, "text", (const char *)data + 1, size - 1, &t, &err);
    fuzz_check_line(rc, &err);
    check_file(kind, data + 1, size - 1, rc == SL_OK ? &t : NULL);
    if (rc == SL_OK) {
        check_find(&t);
        check_written(kind, &t);
        sl_index_table_deinit(&t);
    }
    return 0;
}
