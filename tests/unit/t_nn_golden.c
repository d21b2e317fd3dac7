/* SPDX-License-Identifier: Apache-2.0 */
/* The layer vectors, and what their check must refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "accel/nn/check_nn.h"
#include "common/npz.h"

static char dir[512];
static json_t *manifest;

static int load(void **state)
{
    char path[600];
    const char *root = getenv("SL_GOLDEN");
    json_error_t e;
    snprintf(dir, sizeof(dir), "%s/nn", root == NULL ? "tests/golden" : root);
    snprintf(path, sizeof(path), "%s/manifest.json", dir);
    manifest = json_load_file(path, 0, &e);
    return manifest == NULL ? -1 : 0;
}

static int unload(void **state)
{
    json_decref(manifest);
    return 0;
}

/* Runs the check over m in `where`; what it printed to text. */
static struct sl_check_counts run(const char *where, const json_t *m, const char *only,
                                  char *text, size_t room);

static bool is_name(void *ctx, const char *name)
{
    return ctx == NULL || strcmp(ctx, name) == 0;
}

static struct sl_check_counts run(const char *where, const json_t *m, const char *only,
                                  char *text, size_t room)
{
    struct sl_check_counts counts = {0};
    struct sl_err err;
    FILE *out = tmpfile();
    assert_non_null(out);
    assert_int_equal(sl_check_nn(where, m, is_name, (void *)only, out, &counts, &err),
                     SL_OK);
    rewind(out);
    text[fread(text, 1, room - 1, out)] = '\0';
    fclose(out);
    return counts;
}

static void every_vector_passes_on_every_kernel_level(void **state)
{
    static char text[65536];
    struct sl_check_counts n = run(dir, manifest, NULL, text, sizeof(text));
    if (n.failed > 0)
        fail_msg("%s", text);
    assert_int_equal(n.passed, json_array_size(json_object_get(manifest, "cases")));
    assert_true(n.passed >= 50);
}

static void leaving_cases_out_counts_them_as_skipped(void **state)
{
    char text[256];
    struct sl_check_counts n = run(dir, manifest, "mhsa", text, sizeof(text));
    assert_int_equal(n.passed, 1);
    assert_int_equal(n.skipped, json_array_size(json_object_get(manifest, "cases")) - 1);
    assert_string_equal(text, "ok mhsa\n");
}

static const json_t *case_named(const char *name)
{
    const json_t *entry;
    size_t i;
    json_array_foreach(json_object_get(manifest, "cases"), i, entry)
    {
        if (strcmp(json_string_value(json_object_get(entry, "name")), name) == 0)
            return entry;
    }
    fail_msg("no case %s", name);
    return NULL;
}

static size_t read_case(const char *file, uint8_t *ret, size_t room)
{
    char path[700];
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(ret, 1, room, f);
    fclose(f);
    return n;
}

/* Runs the case `name` from a folder that holds bytes[0..n-1] as its file. */
static struct sl_check_counts run_bytes(const char *name, const uint8_t *bytes, size_t n,
                                        char *text, size_t room)
{
    char folder[] = "/tmp/sl_golden_XXXXXX", path[700];
    const char *file = json_string_value(json_object_get(case_named(name), "file"));
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
    struct sl_check_counts counts = run(folder, manifest, name, text, room);
    unlink(path);
    rmdir(folder);
    return counts;
}

/* The case's archive written again, with the first value of `field` another one. */
static struct sl_check_counts run_altered(const char *name, const char *field, char *text,
                                          size_t room)
{
    static uint8_t bytes[1 << 20];
    struct sl_npz_item items[32];
    struct sl_npz npz;
    struct sl_err err;
    uint8_t *altered, *copy = NULL;
    size_t altered_n;
    size_t n = read_case(json_string_value(json_object_get(case_named(name), "file")),
                         bytes, sizeof(bytes));
    assert_int_equal(sl_npz_open(name, bytes, n, &npz, &err), SL_OK);
    assert_true(npz.n_entries <= 32);
    for (size_t i = 0; i < npz.n_entries; i++) {
        items[i].name = npz.entry[i].name;
        assert_int_equal(sl_npz_get(&npz, items[i].name, &items[i].array, &err), SL_OK);
        if (strcmp(items[i].name, field) != 0)
            continue;
        copy = malloc(items[i].array.bytes);
        assert_non_null(copy);
        memcpy(copy, items[i].array.data, items[i].array.bytes);
        copy[3] ^= 0x40; /* the largest bit of a float's exponent */
        items[i].array.data = copy;
    }
    assert_non_null(copy);
    assert_int_equal(sl_npz_encode(items, npz.n_entries, &altered, &altered_n, &err),
                     SL_OK);
    struct sl_check_counts counts = run_bytes(name, altered, altered_n, text, room);
    free(altered);
    free(copy);
    sl_npz_deinit(&npz);
    return counts;
}

static void one_altered_number_fails_its_case(void **state)
{
    static const char *const cases[][2] = {{"dense", "out_y"},
                                           {"dense", "out_db"},
                                           {"conv_pad", "out_dw"},
                                           {"mhsa_causal", "out_dx"},
                                           {"net_residual", "out_params"},
                                           {"net_batchnorm", "out_stats"},
                                           {"optim_adam", "out_params"},
                                           {"sphere_head", "out_dh"},
                                           {"softmax_ce", "out_probabilities"}};
    char text[512], want[128];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sl_check_counts n =
            run_altered(cases[i][0], cases[i][1], text, sizeof(text));
        if (n.failed != 1)
            fail_msg("%s with another %s passes", cases[i][0], cases[i][1]);
        snprintf(want, sizeof(want), "not ok %s: %s, 0, ", cases[i][0], cases[i][1]);
        if (strncmp(text, want, strlen(want)) != 0)
            fail_msg("%s: %s", cases[i][0], text);
    }
}

static void a_cut_or_missing_file_fails_its_case(void **state)
{
    static uint8_t bytes[1 << 16];
    char text[512];
    size_t n = read_case("dense.npz", bytes, sizeof(bytes));
    for (size_t keep = 0; keep < n; keep += 97)
        assert_int_equal(run_bytes("dense", bytes, keep, text, sizeof(text)).failed, 1);
    assert_int_equal(run_bytes("dense", bytes, n, text, sizeof(text)).passed, 1);
    assert_int_equal(run("/nonexistent", manifest, "dense", text, sizeof(text)).failed,
                     1);
    assert_non_null(strstr(text, "not ok dense: file"));
}

static void unknown_kinds_and_uncompared_fields_fail(void **state)
{
    char text[512];
    json_t *copy = json_deep_copy(manifest), *entry;
    size_t i;
    json_array_foreach(json_object_get(copy, "cases"), i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (strcmp(name, "relu") == 0)
            json_object_set_new(entry, "kind", json_string("teleport"));
        else if (strcmp(name, "dense_nobias") == 0)
            json_object_del(json_object_get(entry, "fields"), "in_w");
        else if (strcmp(name, "layernorm") == 0)
            json_object_set_new(entry, "kind", json_string("relu"));
    }
    assert_int_equal(run(dir, copy, "relu", text, sizeof(text)).failed, 1);
    assert_string_equal(text, "not ok relu: kind, -, a known kind, teleport\n");
    assert_int_equal(run(dir, copy, "dense_nobias", text, sizeof(text)).failed, 1);
    assert_int_equal(run(dir, copy, "layernorm", text, sizeof(text)).failed, 1);
    json_decref(copy);
}

static void a_manifest_without_cases_is_refused(void **state)
{
    struct sl_check_counts counts = {0};
    struct sl_err err;
    json_t *empty = json_object();
    assert_int_equal(sl_check_nn(dir, empty, NULL, NULL, stdout, &counts, &err),
                     SL_E_INPUT);
    json_decref(empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vector_passes_on_every_kernel_level),
        cmocka_unit_test(leaving_cases_out_counts_them_as_skipped),
        cmocka_unit_test(one_altered_number_fails_its_case),
        cmocka_unit_test(a_cut_or_missing_file_fails_its_case),
        cmocka_unit_test(unknown_kinds_and_uncompared_fields_fail),
        cmocka_unit_test(a_manifest_without_cases_is_refused),
    };
    sl_accel_init();
    return cmocka_run_group_tests_name("nn_golden", tests, load, unload);
}
