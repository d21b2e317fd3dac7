/* SPDX-License-Identifier: Apache-2.0 */
#include "common/index_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static enum sl_code parse(enum sl_index_file kind, const char *text, struct sl_index_table *ret,
                          struct sl_err *err)
{
    /* a copy of exactly n bytes, so that sanitizers see a read beyond it */
    size_t n = strlen(text);
    char *copy = malloc(n > 0 ? n : 1);
    memcpy(copy, text, n);
    enum sl_code rc = sl_index_parse(kind, "f", copy, n, ret, err);
    free(copy);
    return rc;
}

static void rows_come_sorted_by_id_with_values_in_file_order(void **state)
{
    struct sl_index_table t;
    struct sl_err err;
    const char *text = "# who owns what\n"
                       "7 3 30 10 20\r\n"
                       "\n"
                       "\t 2  1\t5 # the rest is comment 1 2 3\n"
                       "   \r\n"
                       "4 2 0 67108863";
    assert_int_equal(parse(SL_INDEX_PARTITION, text, &t, &err), SL_OK);
    assert_int_equal(t.n_rows, 3);
    const uint32_t id[] = {2, 4, 7}, value[] = {5, 0, 67108863, 30, 10, 20};
    assert_memory_equal(t.id, id, sizeof(id));
    assert_int_equal(t.offset[3], 6);
    assert_memory_equal(t.value, value, sizeof(value));

    size_t n;
    const uint32_t *row = sl_index_find(&t, 7, &n);
    assert_int_equal(n, 3);
    assert_int_equal(row[1], 10);
    assert_null(sl_index_find(&t, 3, &n));
    assert_int_equal(n, 0);
    assert_null(sl_index_find(&t, 8, &n));
    sl_index_table_deinit(&t);
    sl_index_table_deinit(&t);
    sl_index_table_deinit(NULL);
}

struct bad {
    enum sl_index_file kind;
    const char *text, *message;
};

static const struct bad bad_texts[] = {
    {SL_INDEX_PARTITION, "", "f: no rows (1 or more)"},
    {SL_INDEX_PARTITION, "# nothing\n\n", "f: no rows (1 or more)"},
    {SL_INDEX_PARTITION, "0 1 5\nx 1 6\n", "f:2: client \"x\" (whole numbers 0 to 99999)"},
    {SL_INDEX_PARTITION, "100000 1 5\n", "f:1: client \"100000\" (whole numbers 0 to 99999)"},
    {SL_INDEX_PARTITION, "-1 1 5\n", "f:1: client \"-1\" (whole numbers 0 to 99999)"},
    {SL_INDEX_PARTITION, "3\n", "f:1: no count after client 3 (CLIENT N IDX...)"},
    {SL_INDEX_PARTITION, "3 # 1 4\n", "f:1: no count after client 3 (CLIENT N IDX...)"},
    {SL_INDEX_PARTITION, "3 0\n", "f:1: no sample number after client 3 (1 or more)"},
    {SL_INDEX_PARTITION, "\n3 2 1\n",
     "f:2: 1 sample numbers after a count of 2 (as many as the count)"},
    {SL_INDEX_PARTITION, "3 1 1 2\n",
     "f:1: 2 sample numbers after a count of 1 (as many as the count)"},
    {SL_INDEX_PARTITION, "3 1 1,2\n", "f:1: sample \"1,2\" (whole numbers 0 to 67108863)"},
    {SL_INDEX_PARTITION, "3 1 67108864\n",
     "f:1: sample \"67108864\" (whole numbers 0 to 67108863)"},
    {SL_INDEX_PARTITION, "3 1 99999999999999999999999999999\n",
     "f:1: sample \"99999999999999999999999\" (whole numbers 0 to 67108863)"},
    {SL_INDEX_PARTITION, "3 1 \x01\xff\n", "f:1: sample \"??\" (whole numbers 0 to 67108863)"},
    {SL_INDEX_PARTITION, "3 1 1\n4 1 2\n3 1 5\n",
     "f:3: client 3 has a row in line 1 already (one row each)"},
    {SL_INDEX_PARTITION, "3 3 1 2 1\n", "f:1: sample 1 twice (once)"},
    {SL_INDEX_SELECTION, "0\n", "f:1: no client number after round 0 (1 or more)"},
    {SL_INDEX_SELECTION, "1000000 1\n", "f:1: round \"1000000\" (whole numbers 0 to 999999)"},
    {SL_INDEX_SELECTION, "0 1 2\n1 5 6 5\n", "f:2: client 5 twice (once)"},
    {SL_INDEX_SELECTION, "0 1 100000\n", "f:1: client \"100000\" (whole numbers 0 to 99999)"},
    {SL_INDEX_STEPS, "5 1 2\n", "f:1: 2 numbers after client 5 (exactly 1)"},
    {SL_INDEX_STEPS, "5\n", "f:1: no steps number after client 5 (1 or more)"},
    {SL_INDEX_STEPS, "5 1000001\n", "f:1: steps \"1000001\" (whole numbers 0 to 1000000)"},
    {SL_INDEX_STEPS, "5 1.5\n", "f:1: steps \"1.5\" (whole numbers 0 to 1000000)"},
};

static void bad_texts_are_refused_with_place_and_what_is_allowed(void **state)
{
    for (size_t i = 0; i < sizeof(bad_texts) / sizeof(bad_texts[0]); i++) {
        const struct bad *b = &bad_texts[i];
        struct sl_index_table t = {.n_rows = 42};
        struct sl_err err = {0};
        assert_int_equal(parse(b->kind, b->text, &t, &err), SL_E_INPUT);
        assert_string_equal(err.msg, b->message);
        assert_int_equal(t.n_rows, 42);
    }
}

static void every_truncation_of_a_text_is_read_or_refused(void **state)
{
    const char text[] = "0 2 11 12\n1 1 13\n2 3 14 15 16\n";
    for (size_t n = 0; n < sizeof(text); n++) {
        char cut[sizeof(text)] = {0};
        memcpy(cut, text, n);
        struct sl_index_table t;
        struct sl_err err;
        if (parse(SL_INDEX_PARTITION, cut, &t, &err) != SL_OK)
            continue;
        for (size_t r = 0; r < t.n_rows; r++)
            assert_int_equal(t.offset[r + 1] - t.offset[r], r == 0 ? 2 : r == 1 ? 1 : 3);
        sl_index_table_deinit(&t);
    }
}

static void a_written_table_reads_back_equal(void **state)
{
    const char *texts[] = {"1 3 9 8 7\n20 1 4294967\n", "0 5 4 3\n9 1\n", "4 0\n5 1000000\n"};
    const enum sl_index_file kinds[] = {SL_INDEX_PARTITION, SL_INDEX_SELECTION, SL_INDEX_STEPS};
    for (size_t i = 0; i < 3; i++) {
        struct sl_index_table t;
        struct sl_err err;
        size_t n;
        assert_int_equal(parse(kinds[i], texts[i], &t, &err), SL_OK);
        char *text = sl_index_format(kinds[i], &t, &n);
        assert_string_equal(text, texts[i]);
        assert_int_equal(n, strlen(text));
        free(text);
        sl_index_table_deinit(&t);
    }
}

static void a_hundred_thousand_clients_are_read(void **state)
{
    size_t capacity = 100000 * 20, n = 0;
    char *text = malloc(capacity);
    for (int k = 99999; k >= 0; k--)
        n += (size_t)sprintf(text + n, "%d 1 %d\n", k, 100000 + k);
    struct sl_index_table t;
    struct sl_err err;
    assert_int_equal(sl_index_parse(SL_INDEX_PARTITION, "f", text, n, &t, &err), SL_OK);
    assert_int_equal(t.n_rows, 100000);
    for (uint32_t k = 0; k < 100000; k++)
        assert_int_equal(t.value[k], 100000 + k);
    sl_index_table_deinit(&t);
    free(text);
}

static void a_file_is_loaded_and_a_missing_one_named(void **state)
{
    char path[] = "/tmp/sl_index_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "3 1\n0 2\n", 8), 8);
    close(fd);
    struct sl_index_table t;
    struct sl_err err;
    assert_int_equal(sl_index_load(SL_INDEX_STEPS, path, &t, &err), SL_OK);
    assert_int_equal(t.id[1], 3);
    sl_index_table_deinit(&t);
    unlink(path);
    assert_int_equal(sl_index_load(SL_INDEX_STEPS, "/nonexistent/steps", &t, &err),
                     SL_E_NOTFOUND);
    assert_string_equal(err.msg, "/nonexistent/steps: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_sorted_by_id_with_values_in_file_order),
        cmocka_unit_test(bad_texts_are_refused_with_place_and_what_is_allowed),
        cmocka_unit_test(every_truncation_of_a_text_is_read_or_refused),
        cmocka_unit_test(a_written_table_reads_back_equal),
        cmocka_unit_test(a_hundred_thousand_clients_are_read),
        cmocka_unit_test(a_file_is_loaded_and_a_missing_one_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
