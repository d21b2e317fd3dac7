/* SPDX-License-Identifier: Apache-2.0 */
/* What the check of golden vectors must refuse: an altered bit, a cut file, a manifest
 * that says something else, kinds and formats it does not know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "accel/check/vector.h"
#include "accel/kernels/cpu.h"
#include "common/npz.h"

static char golden[512];

static int find_golden(void **state)
{
    const char *root = getenv("SL_GOLDEN");
    snprintf(golden, sizeof(golden), "%s/accel", root == NULL ? "tests/golden" : root);
    return access(golden, R_OK);
}

/* What a check printed and counted. */
struct outcome {
    struct sl_check_counts counts;
    enum sl_code rc;
    char text[2048];
};

static struct outcome check(const char *dir, const char *only)
{
    struct outcome o = {.rc = SL_OK};
    struct sl_err err;
    FILE *out = tmpfile();
    assert_non_null(out);
    struct sl_cases c = {.only = &only, .n_only = only != NULL, .out = out};
    o.rc = sl_vector_check_dir(&c, dir, &err);
    rewind(out);
    o.text[fread(o.text, 1, sizeof(o.text) - 1, out)] = '\0';
    fclose(out);
    o.counts = c.counts;
    return o;
}

static uint8_t *slurp(const char *name, size_t *ret_n)
{
    char path[700];
    snprintf(path, sizeof(path), "%s/%s.npz", golden, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    uint8_t *bytes = malloc(1 << 20);
    assert_non_null(bytes);
    *ret_n = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    return bytes;
}

static json_t *entry_of(const char *name)
{
    char path[700], file[100];
    size_t i;
    json_t *found = NULL, *entry;
    json_error_t e;
    snprintf(path, sizeof(path), "%s/manifest.json", golden);
    snprintf(file, sizeof(file), "%s.npz", name);
    json_t *m = json_load_file(path, 0, &e);
    assert_non_null(m);
    json_array_foreach(json_object_get(m, "cases"), i, entry)
    {
        if (strcmp(json_string_value(json_object_get(entry, "file")), file) == 0)
            found = json_deep_copy(entry);
    }
    json_decref(m);
    assert_non_null(found);
    return found;
}

/* Checks a folder of one case; takes over the entry. */
static struct outcome check_one(const char *name, json_t *entry, const uint8_t *bytes,
                                size_t n)
{
    char dir[] = "/tmp/sl_vector_XXXXXX", path[100];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/%s.npz", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
    json_t *m = json_pack("{s:[o]}", "cases", entry);
    char manifest[100];
    snprintf(manifest, sizeof(manifest), "%s/manifest.json", dir);
    assert_int_equal(json_dump_file(m, manifest, 0), 0);
    json_decref(m);
    struct outcome o = check(dir, NULL);
    unlink(path);
    unlink(manifest);
    rmdir(dir);
    return o;
}

/* The case with one bit of the first value of `field` altered. */
static struct outcome check_altered(const char *name, const char *field)
{
    struct sl_npz_item items[32];
    struct sl_npz npz;
    struct sl_err err;
    uint8_t *altered, *copy = NULL;
    size_t n, altered_n;
    uint8_t *bytes = slurp(name, &n);
    assert_int_equal(sl_npz_open(name, bytes, n, &npz, &err), SL_OK);
    assert_true(npz.n_entries <= 32);
    for (size_t i = 0; i < npz.n_entries; i++) {
        items[i].name = npz.entry[i].name;
        assert_int_equal(sl_npz_get(&npz, items[i].name, &items[i].array, &err), SL_OK);
        if (strcmp(items[i].name, field) == 0) {
            copy = malloc(items[i].array.bytes);
            assert_non_null(copy);
            memcpy(copy, items[i].array.data, items[i].array.bytes);
            copy[0] ^= 1;
            items[i].array.data = copy;
        }
    }
    assert_non_null(copy);
    assert_int_equal(sl_npz_encode(items, npz.n_entries, &altered, &altered_n, &err),
                     SL_OK);
    struct outcome o = check_one(name, entry_of(name), altered, altered_n);
    sl_npz_deinit(&npz);
    free(altered);
    free(copy);
    free(bytes);
    return o;
}

static void one_altered_bit_fails_its_case(void **state)
{
    static const char *const list[][2] = {
        {"tr_encode", "out_minus"},   {"tr_q_gauss", "out_sf"},
        {"tr_r_ties", "out_value"},   {"tr_r_ties", "out_terms"},
        {"tr_gemm_naf", "out_c"},     {"tr_gemm_i64", "out_int"},
        {"tr_gemm_naf", "out_pairs"}, {"tr_gemm_naf", "out_bound"},
        {"tr_tmac", "out_coef"},      {"rtn_act", "out_t_before"},
        {"rtn_w_wide", "out_d_ch"},   {"rtn_dot_k17", "out_w_flag"},
        {"rtn_gemm_layer", "out_r"},  {"rtn_conv5", "out_k"},
        {"rtn_backward", "out_dx"},   {"fast_q_basic", "out_mantissa"}};
    char want[128];
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        struct outcome o = check_altered(list[i][0], list[i][1]);
        if (o.counts.failed != 1 || o.counts.passed != 0)
            fail_msg("%s with another %s passes", list[i][0], list[i][1]);
        snprintf(want, sizeof(want), "not ok %s: %s, 0, ", list[i][0], list[i][1]);
        if (strncmp(o.text, want, strlen(want)) != 0)
            fail_msg("%s", o.text);
    }
}

static void an_altered_input_fails_its_case(void **state)
{
    assert_int_equal(check_altered("rtn_dot_k17", "in_ta").counts.failed, 1);
    assert_int_equal(check_altered("tr_r_ties", "p_k").counts.failed, 1);
}

static void a_tensor_that_should_be_refused_but_is_taken_fails(void **state)
{
    /* the Inf of the case becomes a number; then the family is one that nobody knows */
    size_t n;
    uint8_t *bytes = slurp("tr_reject", &n);
    struct sl_npz npz;
    struct sl_npz_item items[2];
    struct sl_err err;
    uint8_t *altered;
    size_t altered_n;
    float x[9];
    int32_t format = 1;
    assert_int_equal(sl_npz_open("x", bytes, n, &npz, &err), SL_OK);
    for (size_t i = 0; i < 2; i++) {
        items[i].name = npz.entry[i].name;
        assert_int_equal(sl_npz_get(&npz, items[i].name, &items[i].array, &err), SL_OK);
        bool tensor = strcmp(items[i].name, "in_x") == 0;
        if (tensor)
            memcpy(x, items[i].array.data, sizeof(x));
        items[i].array.data = tensor ? (const uint8_t *)x : (const uint8_t *)&format;
    }
    x[4] = 1.0f;
    assert_int_equal(sl_npz_encode(items, 2, &altered, &altered_n, &err), SL_OK);
    struct outcome o = check_one("tr_reject", entry_of("tr_reject"), altered, altered_n);
    assert_string_equal(o.text, "not ok tr_reject: in_x, -, an error, codes\n");
    free(altered);
    format = 77;
    assert_int_equal(sl_npz_encode(items, 2, &altered, &altered_n, &err), SL_OK);
    o = check_one("tr_reject", entry_of("tr_reject"), altered, altered_n);
    assert_string_equal(o.text, "not ok tr_reject: p_format, -, a known format, 77\n");
    free(altered);
    sl_npz_deinit(&npz);
    free(bytes);
}

static void a_cut_or_missing_file_fails_its_case(void **state)
{
    size_t n;
    uint8_t *bytes = slurp("tr_tmac", &n);
    for (size_t keep = 0; keep < n; keep += 101) {
        struct outcome o = check_one("tr_tmac", entry_of("tr_tmac"), bytes, keep);
        assert_int_equal(o.counts.failed, 1);
        assert_non_null(strstr(o.text, "not ok tr_tmac: file"));
    }
    assert_int_equal(check_one("tr_tmac", entry_of("tr_tmac"), bytes, n).counts.passed,
                     1);
    json_t *entry = entry_of("tr_tmac");
    json_object_set_new(entry, "file", json_string("elsewhere.npz"));
    assert_int_equal(check_one("tr_tmac", entry, bytes, n).counts.failed, 1);
    free(bytes);
}

static struct outcome with_entry(const char *name, json_t *entry)
{
    size_t n;
    uint8_t *bytes = slurp(name, &n);
    struct outcome o = check_one(name, entry, bytes, n);
    free(bytes);
    return o;
}

static void a_manifest_that_says_something_else_fails(void **state)
{
    json_t *e = entry_of("rtn_act");
    json_object_set_new(e, "kind", json_string("teleport"));
    assert_string_equal(with_entry("rtn_act", e).text,
                        "not ok rtn_act: kind, -, a known kind, teleport\n");
    e = entry_of("rtn_act"); /* a kind that leaves outputs alone */
    json_object_set_new(e, "kind", json_string("reject"));
    assert_int_equal(with_entry("rtn_act", e).counts.failed, 1);
    e = entry_of("rtn_act"); /* an array that the manifest does not list */
    json_object_del(json_object_get(e, "fields"), "out_t");
    assert_non_null(strstr(with_entry("rtn_act", e).text, "the manifest lists"));
    e = entry_of("rtn_act");
    json_object_set_new(json_object_get(json_object_get(e, "fields"), "out_t"), "dtype",
                        json_string("int16"));
    assert_non_null(strstr(with_entry("rtn_act", e).text, "out_t"));
    e = entry_of("rtn_act");
    json_object_set_new(json_object_get(json_object_get(e, "fields"), "out_t"), "shape",
                        json_pack("[i]", 256));
    assert_non_null(strstr(with_entry("rtn_act", e).text, "out_t"));
    e = entry_of("rtn_act");
    json_object_set_new(e, "file", json_string("../rtn_act.npz"));
    assert_int_equal(with_entry("rtn_act", e).counts.failed, 1);
}

static void an_output_that_no_run_computes_fails(void **state)
{
    struct sl_npz_item item;
    struct sl_err err;
    uint8_t *bytes;
    size_t n, dim = 1;
    const int32_t value = 3;
    item.name = "out_future";
    assert_int_equal(sl_npy_make(SL_NPY_I4, 1, &dim, &value, &item.array, &err), SL_OK);
    assert_int_equal(sl_npz_encode(&item, 1, &bytes, &n, &err), SL_OK);
    json_t *e =
        json_pack("{s:s, s:s, s:{s:{s:s, s:[i]}}}", "file", "x.npz", "kind", "tr_encode",
                  "fields", "out_future", "dtype", "int32", "shape", 1);
    struct outcome o = check_one("x", e, bytes, n);
    assert_int_equal(o.counts.failed, 1);
    free(bytes);
}

static void cases_are_chosen_by_glob_and_others_are_skipped(void **state)
{
    struct outcome o = check(golden, "rtn_w_t*");
    assert_int_equal(o.counts.passed, 1);
    assert_int_equal(o.counts.failed, 0);
    assert_true(o.counts.skipped > 150);
    assert_string_equal(o.text, "ok rtn_w_tie\n");
}

static void a_folder_without_manifests_is_an_error(void **state)
{
    assert_int_equal(check("/nonexistent", NULL).rc, SL_E_INPUT);
    char dir[] = "/tmp/sl_vector_XXXXXX";
    assert_non_null(mkdtemp(dir));
    assert_int_equal(check(dir, NULL).rc, SL_E_INPUT);
    rmdir(dir);
}

static void kernel_variants_grow_by_one_instruction_set(void **state)
{
    uint32_t cpu, before = 0;
    size_t i = 0;
    assert_true(sl_cases_cpu(0, &cpu) && cpu == 0);
    for (i = 1; sl_cases_cpu(i, &cpu); i++) {
        assert_true((cpu & before) == before && cpu != before);
        before = cpu;
    }
    assert_int_equal(before, sl_cpu_detect());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_altered_bit_fails_its_case),
        cmocka_unit_test(an_altered_input_fails_its_case),
        cmocka_unit_test(a_tensor_that_should_be_refused_but_is_taken_fails),
        cmocka_unit_test(a_cut_or_missing_file_fails_its_case),
        cmocka_unit_test(a_manifest_that_says_something_else_fails),
        cmocka_unit_test(an_output_that_no_run_computes_fails),
        cmocka_unit_test(cases_are_chosen_by_glob_and_others_are_skipped),
        cmocka_unit_test(a_folder_without_manifests_is_an_error),
        cmocka_unit_test(kernel_variants_grow_by_one_instruction_set),
    };
    sl_accel_init();
    return cmocka_run_group_tests_name("vector", tests, find_golden, NULL);
}
