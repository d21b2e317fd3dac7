/* SPDX-License-Identifier: Apache-2.0 */
#include "common/model_file.h"
#include "common/safetensors.h"

#include <math.h>
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

#include "common/file.h"
#include "common/npz.h"

#define PYTHON "/usr/bin/python3"
#define PATH_BYTES 128

/* --- safetensors ------------------------------------------------------------------ */

/* A block of exactly the file's size, so that sanitizers see a read beyond it. */
static uint8_t *file_of(const char *header, const void *data, size_t n_data,
                        size_t *ret_n)
{
    uint64_t n = strlen(header);
    uint8_t *file = malloc(8 + n + n_data);
    memcpy(file, &n, 8);
    memcpy(file + 8, header, n);
    if (n_data > 0)
        memcpy(file + 8 + n, data, n_data);
    *ret_n = 8 + n + n_data;
    return file;
}

static void tensors_are_found_where_the_header_puts_them(void **state)
{
    const float data[6] = {1, 2, 3, 4, 5, 6};
    size_t n;
    uint8_t *file =
        file_of("{\"__metadata__\":{\"format\":\"pt\"},"
                "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]},"
                "\"e\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[16,16]},"
                "\"a\":{\"data_offsets\":[0,16],\"shape\":[2,2],\"dtype\":\"F32\"}}  ",
                data, sizeof(data), &n);
    struct sl_safetensors s;
    struct sl_err err = {0};
    if (sl_safetensors_open("f", file, n, &s, &err) != SL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(s.n_tensors, 3);
    const struct sl_safetensor *a = sl_safetensors_find(&s, "a");
    float x[4];
    assert_int_equal(a->n_dims, 2);
    sl_safetensors_floats(a, x);
    assert_true(x[0] == 1 && x[3] == 4);
    sl_safetensors_floats(sl_safetensors_find(&s, "b"), x);
    assert_true(x[0] == 5 && x[1] == 6);
    assert_int_equal(sl_safetensors_find(&s, "e")->n, 0);
    assert_null(sl_safetensors_find(&s, "__metadata__"));
    sl_safetensors_deinit(&s);
    sl_safetensors_deinit(&s);
    sl_safetensors_deinit(NULL);
    free(file);
}

static void halves_and_doubles_become_floats(void **state)
{
    const uint16_t f16[8] = {0x3c00, 0xc000, 0x0001, 0x8000,
                             0x7bff, 0x7c00, 0x03ff, 0x7e00};
    const float want[7] = {1, -2, 0x1p-24f, -0.0f, 65504, INFINITY, 1023 * 0x1p-24f};
    const uint16_t bf16[2] = {0x3f80, 0xc049};
    const double f64[1] = {0.1};
    uint8_t data[28];
    memcpy(data, f16, 16);
    memcpy(data + 16, bf16, 4);
    memcpy(data + 20, f64, 8);
    size_t n;
    uint8_t *file =
        file_of("{\"h\":{\"dtype\":\"F16\",\"shape\":[8],\"data_offsets\":[0,16]},"
                "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[16,20]},"
                "\"d\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[20,28]}}",
                data, sizeof(data), &n);
    struct sl_safetensors s;
    float x[8];
    assert_int_equal(sl_safetensors_open("f", file, n, &s, NULL), SL_OK);
    sl_safetensors_floats(sl_safetensors_find(&s, "h"), x);
    assert_memory_equal(x, want, sizeof(want));
    assert_true(isnan(x[7]));
    sl_safetensors_floats(sl_safetensors_find(&s, "b"), x);
    assert_true(x[0] == 1 && x[1] == -3.140625f);
    sl_safetensors_floats(sl_safetensors_find(&s, "d"), x);
    assert_true(x[0] == 0.1f);
    sl_safetensors_deinit(&s);
    free(file);
}

#define ROW(name, dtype, shape, offsets)                                                 \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape                             \
    ",\"data_offsets\":" offsets "}"

static void bad_headers_are_refused_with_the_reason(void **state)
{
    static const struct {
        const char *header, *message;
        enum sl_code code;
    } cases[] = {
        /* each has 8 bytes of data */
        {"{" ROW("a", "F32", "[2]", "[0,8]"), "no JSON object", SL_E_INPUT},
        {"[]", "no JSON object", SL_E_INPUT},
        {"", "no JSON object", SL_E_INPUT},
        {"{" ROW("a", "F32", "[2]", "[0,8]") "," ROW("a", "F32", "[2]", "[0,8]") "}",
         "given twice", SL_E_INPUT},
        {"{}", "behind the last", SL_E_INPUT},
        {"{" ROW("a", "F32", "[1]", "[0,4]") "}", "behind the last", SL_E_INPUT},
        {"{" ROW("a", "F32", "[1]", "[4,8]") "}", "gap", SL_E_INPUT},
        {"{" ROW("a", "F32", "[2]", "[0,8]") "," ROW("b", "F32", "[1]", "[4,8]") "}",
         "overlap", SL_E_INPUT},
        {"{" ROW("a", "F32", "[2]", "[0,8]") "," ROW("b", "F32", "[2]", "[0,8]") "}",
         "overlap", SL_E_INPUT},
        {"{" ROW("a", "F32", "[3]", "[0,12]") "}", "beyond the file", SL_E_INPUT},
        {"{" ROW("a", "F32", "[2]", "[8,0]") "}", "beyond the file", SL_E_INPUT},
        {"{" ROW("a", "F32", "[2]", "[-8,0]") "}", "beyond the file", SL_E_INPUT},
        {"{" ROW("a", "F32", "[2]", "[0,8,8]") "}", "no two numbers", SL_E_INPUT},
        {"{" ROW("a", "F32", "[2]", "[0.0,8.0]") "}", "no two numbers", SL_E_INPUT},
        {"{" ROW("a", "F32", "[2]", "{}") "}", "no two numbers", SL_E_INPUT},
        {"{" ROW("a", "F32", "[3]", "[0,8]") "}", "its shape needs 12", SL_E_INPUT},
        {"{" ROW("a", "F32", "[-2]", "[0,8]") "}", "numbers from 0", SL_E_INPUT},
        {"{" ROW("a", "F32", "2", "[0,8]") "}", "no list", SL_E_INPUT},
        {"{" ROW("a", "F32", "[4294967296,4294967296]", "[0,8]") "}", "beyond any memory",
         SL_E_INPUT},
        {"{" ROW("a", "F32", "[9223372036854775807]", "[0,8]") "}", "beyond any memory",
         SL_E_INPUT},
        {"{" ROW("a", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") "}", "at most 8",
         SL_E_LIMIT},
        {"{" ROW("a", "I64", "[1]", "[0,8]") "}", "unknown dtype", SL_E_INPUT},
        {"{\"a\":{\"dtype\":1,\"shape\":[2],\"data_offsets\":[0,8]}}", "no text",
         SL_E_INPUT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", "are needed", SL_E_INPUT},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}",
         "nothing else", SL_E_INPUT},
        {"{\"a\":7}", "are needed", SL_E_INPUT},
        {"{" ROW("", "F32", "[2]", "[0,8]") "}", "name is empty", SL_E_INPUT},
        {"{" ROW("a\\nb", "F32", "[2]", "[0,8]") "}", "not printable", SL_E_INPUT},
        {"{\"__metadata__\":1," ROW("a", "F32", "[2]", "[0,8]") "}", "no object",
         SL_E_INPUT},
        {"{\"__metadata__\":{\"k\":1}," ROW("a", "F32", "[2]", "[0,8]") "}", "no text",
         SL_E_INPUT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n;
        uint8_t *file = file_of(cases[i].header, "12345678", 8, &n);
        struct sl_safetensors s = {.n_tensors = 77};
        struct sl_err err = {0};
        enum sl_code rc = sl_safetensors_open("f", file, n, &s, &err);
        if (rc != cases[i].code || strstr(err.msg, cases[i].message) == NULL)
            fail_msg("%s: code %d, \"%s\"", cases[i].header, rc, err.msg);
        assert_int_equal(s.n_tensors, 77);
        free(file);
    }
}

static void a_header_beyond_the_limit_is_refused_unread(void **state)
{
    struct sl_safetensors s;
    uint8_t file[16] = {0};
    uint64_t n = SL_SAFETENSORS_HEADER_MAX + 1;
    memcpy(file, &n, 8);
    assert_int_equal(sl_safetensors_open("f", file, sizeof(file), &s, NULL), SL_E_LIMIT);
    n = SL_SAFETENSORS_HEADER_MAX;
    memcpy(file, &n, 8);
    assert_int_equal(sl_safetensors_open("f", file, sizeof(file), &s, NULL), SL_E_INPUT);
    n = UINT64_MAX;
    memcpy(file, &n, 8);
    assert_int_equal(sl_safetensors_open("f", file, sizeof(file), &s, NULL), SL_E_LIMIT);
}

static const float six[6] = {1, -2, 3.5f, 4, 5, 6};

static uint8_t *two_tensors(size_t *ret_n)
{
    const struct sl_safetensors_item items[2] = {{"fc1.weight", 2, {2, 2}, six},
                                                 {"scale", 0, {0}, six + 4}};
    uint8_t *file = NULL;
    assert_int_equal(sl_safetensors_encode(items, 2, &file, ret_n, NULL), SL_OK);
    return file;
}

static void written_tensors_read_back(void **state)
{
    size_t n;
    uint8_t *file = two_tensors(&n);
    uint64_t head;
    memcpy(&head, file, 8);
    assert_int_equal(head % 8, 0);
    assert_int_equal(n, 8 + head + 20);
    struct sl_safetensors s;
    float x[4];
    assert_int_equal(sl_safetensors_open("f", file, n, &s, NULL), SL_OK);
    assert_int_equal(s.n_tensors, 2);
    const struct sl_safetensor *t = sl_safetensors_find(&s, "fc1.weight");
    assert_true(t->n_dims == 2 && t->dim[0] == 2 && t->dim[1] == 2);
    sl_safetensors_floats(t, x);
    assert_memory_equal(x, six, 16);
    sl_safetensors_floats(sl_safetensors_find(&s, "scale"), x);
    assert_true(x[0] == 5);
    sl_safetensors_deinit(&s);
    free(file);
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    size_t n;
    uint8_t *file = two_tensors(&n);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *part = malloc(cut + (cut == 0));
        memcpy(part, file, cut);
        struct sl_safetensors s;
        struct sl_err err;
        assert_int_equal(sl_safetensors_open("f", part, cut, &s, &err), SL_E_INPUT);
        free(part);
    }
    free(file);
}

static void items_are_checked_before_writing(void **state)
{
    static const struct sl_safetensors_item bad[] = {
        {"", 1, {1}, six},
        {"__metadata__", 1, {1}, six},
        {"a\xff", 1, {1}, six},
        {"a\nb", 1, {1}, six},
        {"a", 9, {1}, six},
        {"a", 1, {SIZE_MAX}, six},
        {"a", 2, {1u << 31, SIZE_MAX / 4}, six},
    };
    uint8_t *file = NULL;
    size_t n = 0;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_not_equal(sl_safetensors_encode(&bad[i], 1, &file, &n, NULL), SL_OK);
    const struct sl_safetensors_item twice[2] = {{"a", 1, {1}, six}, {"a", 1, {1}, six}};
    assert_int_equal(sl_safetensors_encode(twice, 2, &file, &n, NULL), SL_E_INPUT);
    assert_null(file);
    assert_int_equal(sl_safetensors_encode(NULL, 0, &file, &n, NULL), SL_OK);
    struct sl_safetensors s;
    assert_int_equal(sl_safetensors_open("f", file, n, &s, NULL), SL_OK);
    assert_int_equal(s.n_tensors, 0);
    sl_safetensors_deinit(&s);
    free(file);
}

/* --- model files ------------------------------------------------------------------ */

struct fixture {
    char folder[32];
    struct sl_layout layout;
    float values[11];
};

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){.folder = "/tmp/sl_model_XXXXXX"};
    const uint32_t w[2] = {2, 3}, b[1] = {2}, head[3] = {1, 2, 1};
    assert_non_null(mkdtemp(f.folder));
    sl_layout_add(&f.layout, "fc1.weight", SL_TENSOR_PARAM, 2, w, NULL);
    sl_layout_add(&f.layout, "fc1.bias", SL_TENSOR_PARAM, 1, b, NULL);
    sl_layout_add(&f.layout, "count", SL_TENSOR_BUFFER, 0, NULL, NULL);
    sl_layout_add(&f.layout, "head", SL_TENSOR_FIXED, 3, head, NULL);
    assert_int_equal(f.layout.n_values, 11);
    for (int i = 0; i < 11; i++)
        f.values[i] = (float)i / 3 - 1;
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    sl_layout_deinit(&f->layout);
    return rmdir(f->folder); /* a temporary file left behind fails here */
}

static const char *in(const struct fixture *f, const char *name, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/%s", f->folder, name);
    return path;
}

static const char *const names[] = {"m.npz", "m.safetensors"};

static void a_saved_model_loads_bit_for_bit(void **state)
{
    struct fixture *f = *state;
    f->values[3] = -0.0f;
    f->values[4] = NAN;
    for (int k = 0; k < 2; k++) {
        char path[PATH_BYTES];
        float got[11];
        struct sl_err err = {0};
        in(f, names[k], path);
        if (sl_model_file_save(path, &f->layout, f->values, &err) != SL_OK ||
            sl_model_file_load(path, &f->layout, got, &err) != SL_OK)
            fail_msg("%s", err.msg);
        assert_memory_equal(got, f->values, sizeof(got));
        unlink(path);
    }
}

static void tensors_are_matched_by_name_in_any_order(void **state)
{
    struct fixture *f = *state;
    struct sl_layout other = {0};
    for (size_t i = 4; i-- > 0;) {
        const struct sl_tensor *t = &f->layout.tensors[i];
        sl_layout_add(&other, t->name, SL_TENSOR_PARAM, t->n_dims, t->dim, NULL);
    }
    for (int k = 0; k < 2; k++) {
        char path[PATH_BYTES];
        float got[11];
        in(f, names[k], path);
        assert_int_equal(sl_model_file_save(path, &f->layout, f->values, NULL), SL_OK);
        assert_int_equal(sl_model_file_load(path, &other, got, NULL), SL_OK);
        assert_memory_equal(got + 5, f->values, 6 * sizeof(float));
        assert_true(got[2] == f->values[8]);
        unlink(path);
    }
    sl_layout_deinit(&other);
}

static void expect_refusal(const char *path, const struct sl_layout *l,
                           const char *message)
{
    float got[16], before[16];
    struct sl_err err = {0};
    for (int i = 0; i < 16; i++)
        before[i] = got[i] = (float)i;
    enum sl_code rc = sl_model_file_load(path, l, got, &err);
    if (rc != SL_E_INPUT || strstr(err.msg, message) == NULL)
        fail_msg("%s: code %d, \"%s\" has no \"%s\"", path, rc, err.msg, message);
    assert_memory_equal(got, before, sizeof(got));
}

static void other_models_are_refused_by_name(void **state)
{
    struct fixture *f = *state;
    struct sl_layout more = {0}, fewer = {0}, turned = {0};
    const uint32_t w[2] = {3, 2}, one[1] = {1};
    for (size_t i = 0; i < 4; i++) {
        const struct sl_tensor *t = &f->layout.tensors[i];
        sl_layout_add(&more, t->name, t->role, t->n_dims, t->dim, NULL);
        if (i != 1)
            sl_layout_add(&fewer, t->name, t->role, t->n_dims, t->dim, NULL);
        sl_layout_add(&turned, t->name, t->role, t->n_dims, i == 0 ? w : t->dim, NULL);
    }
    sl_layout_add(&more, "fc2.bias", SL_TENSOR_PARAM, 1, one, NULL);
    for (int k = 0; k < 2; k++) {
        char path[PATH_BYTES];
        in(f, names[k], path);
        assert_int_equal(sl_model_file_save(path, &f->layout, f->values, NULL), SL_OK);
        expect_refusal(path, &more, "no tensor \"fc2.bias\"");
        expect_refusal(path, &fewer, "\"fc1.bias\" is none of the model's");
        expect_refusal(path, &turned, "\"fc1.weight\" is [2, 3], the model's is [3, 2]");
        unlink(path);
    }
    sl_layout_deinit(&more);
    sl_layout_deinit(&fewer);
    sl_layout_deinit(&turned);
}

static void arrays_of_integers_are_no_model(void **state)
{
    struct fixture *f = *state;
    struct sl_layout l = {0};
    const uint32_t dim[1] = {2};
    const size_t size[1] = {2};
    const int32_t v[2] = {1, 2};
    struct sl_npz_item item = {.name = "a"};
    char path[PATH_BYTES];
    uint8_t *bytes;
    size_t n;
    sl_layout_add(&l, "a", SL_TENSOR_PARAM, 1, dim, NULL);
    sl_npy_make(SL_NPY_I4, 1, size, v, &item.array, NULL);
    assert_int_equal(sl_npz_encode(&item, 1, &bytes, &n, NULL), SL_OK);
    assert_int_equal(sl_file_write_atomic(in(f, "m.npz", path), bytes, n, false, NULL),
                     SL_OK);
    expect_refusal(path, &l, "type <i4");
    free(bytes);
    unlink(path);
    sl_layout_deinit(&l);
}

static void a_model_cut_anywhere_is_refused_and_leaves_values_alone(void **state)
{
    struct fixture *f = *state;
    for (int k = 0; k < 2; k++) {
        char path[PATH_BYTES];
        uint8_t *bytes;
        size_t n;
        in(f, names[k], path);
        assert_int_equal(sl_model_file_save(path, &f->layout, f->values, NULL), SL_OK);
        assert_int_equal(sl_file_read(path, 1u << 20, &bytes, &n, NULL), SL_OK);
        for (size_t cut = 0; cut < n; cut += 5) {
            assert_int_equal(sl_file_write_atomic(path, bytes, cut, false, NULL), SL_OK);
            expect_refusal(path, &f->layout, path);
        }
        free(bytes);
        unlink(path);
    }
}

static void paths_decide_the_format(void **state)
{
    struct fixture *f = *state;
    struct sl_err err;
    static const char *const bad[] = {"m", "m.pt", "m.npz.gz", ".npz", "npz", ""};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(sl_model_file_check(bad[i], &err), SL_E_USAGE);
        assert_int_equal(sl_model_file_save(bad[i], &f->layout, f->values, &err),
                         SL_E_USAGE);
        assert_int_equal(sl_model_file_load(bad[i], &f->layout, f->values, &err),
                         SL_E_USAGE);
    }
    assert_int_equal(sl_model_file_check("a/m.npz", &err), SL_OK);
    assert_int_equal(sl_model_file_save("/nowhere/m.npz", &f->layout, f->values, &err),
                     SL_E_NOTFOUND);
    assert_int_equal(sl_model_file_load("/nowhere/m.npz", &f->layout, f->values, &err),
                     SL_E_NOTFOUND);
}

static void python_reads_the_models_we_save(void **state)
{
    struct fixture *f = *state;
    if (system(PYTHON " -c 'import numpy' 2>/dev/null") != 0)
        skip();
    char path[PATH_BYTES], command[2048];
    for (int k = 0; k < 2; k++)
        assert_int_equal(
            sl_model_file_save(in(f, names[k], path), &f->layout, f->values, NULL),
            SL_OK);
    snprintf(
        command, sizeof(command),
        PYTHON
        " -c \"\n"
        "import sys, json, struct, numpy as np\n"
        "z = np.load(sys.argv[1] + '/m.npz')\n"
        "b = open(sys.argv[1] + '/m.safetensors', 'rb').read()\n"
        "h = struct.unpack('<Q', b[:8])[0]\n"
        "rows = json.loads(b[8:8 + h])\n"
        "assert list(rows) == z.files == ['fc1.weight', 'fc1.bias', 'count', "
        "'head']\n"
        "want = (np.arange(11, dtype='f4') / np.float32(3) - np.float32(1))\n"
        "got = []\n"
        "for name, r in rows.items():\n"
        "    lo, hi = r['data_offsets']\n"
        "    v = np.frombuffer(b[8 + h + lo:8 + h + hi], '<f4').reshape(r['shape'])\n"
        "    assert r['dtype'] == 'F32' and z[name].shape == v.shape\n"
        "    assert (z[name] == v).all()\n"
        "    got += v.ravel().tolist()\n"
        "assert got == want.tolist() and 8 + h + hi == len(b)\n"
        "\" %s",
        f->folder);
    assert_int_equal(system(command), 0);
    for (int k = 0; k < 2; k++)
        unlink(in(f, names[k], path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_where_the_header_puts_them),
        cmocka_unit_test(halves_and_doubles_become_floats),
        cmocka_unit_test(bad_headers_are_refused_with_the_reason),
        cmocka_unit_test(a_header_beyond_the_limit_is_refused_unread),
        cmocka_unit_test(written_tensors_read_back),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(items_are_checked_before_writing),
        cmocka_unit_test_setup_teardown(a_saved_model_loads_bit_for_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(tensors_are_matched_by_name_in_any_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(other_models_are_refused_by_name, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(arrays_of_integers_are_no_model, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_model_cut_anywhere_is_refused_and_leaves_values_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(paths_decide_the_format, setup, teardown),
        cmocka_unit_test_setup_teardown(python_reads_the_models_we_save, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
