/* SPDX-License-Identifier: Apache-2.0 */
#include "common/npy.h"
#include "common/npz.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>
#include <jansson.h>

#define PYTHON "/usr/bin/python3"

/* --- bytes ------------------------------------------------------------------------ */

struct bytes {
    uint8_t *at;
    size_t n;
};

static struct bytes read_whole(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    struct bytes b = {.n = (size_t)ftell(f)};
    rewind(f);
    b.at = malloc(b.n + 1);
    assert_int_equal(fread(b.at, 1, b.n, f), b.n);
    fclose(f);
    return b;
}

static void write_whole(const char *path, struct bytes b)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b.at, 1, b.n, f), b.n);
    assert_int_equal(fclose(f), 0);
}

static bool have_numpy(void)
{
    return system(PYTHON " -c 'import numpy' 2>/dev/null") == 0;
}

/* Runs a script with the folder as its argument; true when it ends with 0. */
static bool python(const char *folder, const char *script)
{
    char command[4096];
    int n = snprintf(command, sizeof(command), PYTHON " -c \"%s\" %s", script, folder);
    assert_in_range(n, 1, sizeof(command) - 1);
    return system(command) == 0;
}

/* A .npy from a header's text, padded with nothing. */
static struct bytes npy_of(int version, const char *text, const void *data, size_t n)
{
    size_t len = strlen(text), prefix = version == 2 ? 12 : 10;
    struct bytes b = {malloc(prefix + len + n), prefix + len + n};
    memcpy(b.at, "\x93NUMPY", 6);
    b.at[6] = (uint8_t)version;
    b.at[7] = 0;
    memset(b.at + 8, 0, prefix - 8);
    b.at[8] = (uint8_t)len;
    b.at[9] = (uint8_t)(len >> 8);
    memcpy(b.at + prefix, text, len);
    if (n > 0)
        memcpy(b.at + prefix + len, data, n);
    return b;
}

static enum sl_code parse_text(const char *text, size_t n, struct sl_npy *ret,
                               struct sl_err *err)
{
    uint8_t zeros[64] = {0};
    struct bytes b = npy_of(1, text, zeros, n);
    enum sl_code rc = sl_npy_parse("f", b.at, b.n, ret, err);
    free(b.at);
    return rc;
}

static struct sl_npy array(enum sl_npy_dtype dtype, unsigned n_dims, const size_t *dim,
                           const void *data)
{
    struct sl_npy a;
    assert_int_equal(sl_npy_make(dtype, n_dims, dim, data, &a, NULL), SL_OK);
    return a;
}

static void assert_alike(const struct sl_npy *a, const struct sl_npy *b)
{
    assert_int_equal(a->dtype, b->dtype);
    assert_int_equal(a->n_dims, b->n_dims);
    assert_memory_equal(a->dim, b->dim, sizeof(a->dim));
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->bytes, b->bytes);
    if (a->bytes > 0)
        assert_memory_equal(a->data, b->data, a->bytes);
}

/* --- .npy ------------------------------------------------------------------------- */

static void headers_are_read_whatever_their_order_and_blanks(void **state)
{
    struct sl_npy a;
    struct sl_err err;
    assert_int_equal(
        parse_text("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", 24,
                   &a, &err),
        SL_OK);
    assert_int_equal(a.dtype, SL_NPY_F4);
    assert_int_equal(a.n_dims, 2);
    assert_int_equal(a.dim[0], 2);
    assert_int_equal(a.dim[1], 3);
    assert_int_equal(a.n, 6);
    assert_int_equal(
        parse_text("{\"shape\":(4,),\"descr\":'|u1','fortran_order':False}", 4, &a, &err),
        SL_OK);
    assert_int_equal(a.dtype, SL_NPY_U1);
    assert_int_equal(a.dim[0], 4);
    assert_int_equal(
        parse_text("{'descr':'<i8','fortran_order':False,'shape':()}", 8, &a, &err),
        SL_OK);
    assert_int_equal(a.n_dims, 0);
    assert_int_equal(a.n, 1);
    assert_int_equal(
        parse_text("{'descr':'<i8','fortran_order':False,'shape':(7,0,3)}", 0, &a, &err),
        SL_OK);
    assert_int_equal(a.n, 0);
    assert_int_equal(
        parse_text("{'descr':'|u1','fortran_order':False,'shape':(1,1,1,1,1,1,1,2)}", 2,
                   &a, &err),
        SL_OK);
    assert_int_equal(a.n_dims, 8);
}

static void version_2_has_a_longer_length(void **state)
{
    const int16_t values[3] = {-1, 2, 300};
    struct bytes b =
        npy_of(2, "{'descr':'<i2','fortran_order':False,'shape':(3,)}", values, 6);
    struct sl_npy a;
    int64_t got[3];
    assert_int_equal(sl_npy_parse("f", b.at, b.n, &a, NULL), SL_OK);
    assert_int_equal(sl_npy_integers("f", &a, got, NULL), SL_OK);
    assert_int_equal(got[0], -1);
    assert_int_equal(got[2], 300);
    free(b.at);
}

static void bad_headers_are_refused_with_the_reason(void **state)
{
    static const struct {
        const char *text, *message;
        size_t n;
        enum sl_code code;
    } cases[] = {
        {"{'descr':'<f4','fortran_order':True,'shape':(1,)}", "Fortran order", 4,
         SL_E_INPUT},
        {"{'descr':'>f4','fortran_order':False,'shape':(1,)}", "type >f4", 4, SL_E_INPUT},
        {"{'descr':'|b1','fortran_order':False,'shape':(1,)}", "type |b1", 1, SL_E_INPUT},
        {"{'descr':'|O','fortran_order':False,'shape':(1,)}", "type |O", 8, SL_E_INPUT},
        {"{'descr':[('a','<f4')],'fortran_order':False,'shape':(1,)}", "no plain type", 4,
         SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':0,'shape':(1,)}", "neither True", 4, SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False,'shape':[1]}", "no tuple", 4, SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False,'shape':(1)}", "is a number", 4,
         SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False,'shape':(-1,)}", "no tuple of", 4,
         SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False,'shape':(1 1)}", "no tuple of", 4,
         SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False,'shape':(1,1,1,1,1,1,1,1,1)}",
         "more than 8 dimensions", 4, SL_E_LIMIT},
        {"{'descr':'<f4','fortran_order':False,'shape':(18446744073709551615,)}",
         "beyond any memory", 4, SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False,'shape':(18446744073709551616,)}",
         "no tuple of", 4, SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False,'shape':(4294967296,4294967296)}",
         "beyond any memory", 4, SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False,'shape':(2,)}", "cut", 4, SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False,'shape':(1,)}", "too long", 5, SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False}", "missing", 4, SL_E_INPUT},
        {"{'descr':'<f4','descr':'<f4','fortran_order':False,'shape':()}", "repeated", 4,
         SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False,'shape':(),'x':1}", "unknown", 4,
         SL_E_INPUT},
        {"{'descr':'<f4' 'fortran_order':False,'shape':()}", "comma", 4, SL_E_INPUT},
        {"{'descr':'<f4','fortran_order':False,'shape':()} x", "behind", 4, SL_E_INPUT},
        {"", "no dictionary", 4, SL_E_INPUT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sl_npy a = {.n = 77};
        struct sl_err err = {0};
        enum sl_code rc = parse_text(cases[i].text, cases[i].n, &a, &err);
        if (rc != cases[i].code || strstr(err.msg, cases[i].message) == NULL)
            fail_msg("%s: code %d, \"%s\"", cases[i].text, rc, err.msg);
        assert_int_equal(a.n, 77);
    }
}

static void other_versions_and_files_are_refused(void **state)
{
    struct sl_npy a;
    struct sl_err err;
    struct bytes b = npy_of(3, "{}", NULL, 0);
    assert_int_equal(sl_npy_parse("f", b.at, b.n, &a, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "f: .npy of version 3.0 (1.0 and 2.0 allowed)");
    b.at[0] = 'P';
    assert_int_equal(sl_npy_parse("f", b.at, b.n, &a, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "f: no .npy");
    free(b.at);
}

static void arrays_of_all_types_survive_writing(void **state)
{
    uint8_t values[6 * 8];
    for (size_t i = 0; i < sizeof(values); i++)
        values[i] = (uint8_t)(i * 37 + 1);
    const size_t dim[8] = {1, 2, 1, 3, 1, 1, 1, 1};
    for (int t = SL_NPY_F4; t <= SL_NPY_U8; t++)
        for (unsigned n_dims = 0; n_dims <= 8; n_dims++) {
            struct sl_npy a = array((enum sl_npy_dtype)t, n_dims, dim, values), again;
            size_t n = sl_npy_file_bytes(&a);
            assert_int_equal((n - a.bytes) % 64, 0);
            uint8_t *file = malloc(n);
            sl_npy_encode(&a, file);
            assert_int_equal(sl_npy_parse("f", file, n, &again, NULL), SL_OK);
            assert_alike(&a, &again);
            free(file);
        }
}

static void the_longest_shape_fits_its_header(void **state)
{
    const size_t dim[8] = {SIZE_MAX, 0, SIZE_MAX / 4, 0, 0, 1, 1, 1};
    struct sl_npy a, again;
    assert_int_equal(sl_npy_make(SL_NPY_F4, 8, dim, NULL, &a, NULL), SL_E_LIMIT);
    const size_t wide[8] = {SIZE_MAX / 8, 0, 0, 0, 0, 0, 0, 0};
    a = array(SL_NPY_F8, 8, wide, NULL);
    uint8_t file[1024];
    assert_in_range(sl_npy_file_bytes(&a), 64, sizeof(file));
    sl_npy_encode(&a, file);
    assert_int_equal(sl_npy_parse("f", file, sl_npy_file_bytes(&a), &again, NULL), SL_OK);
    assert_alike(&a, &again);
    assert_int_equal(sl_npy_make(SL_NPY_F4, 9, wide, NULL, &a, NULL), SL_E_LIMIT);
}

static void a_npy_cut_anywhere_is_refused(void **state)
{
    const float values[3] = {1, 2, 3};
    const size_t dim[1] = {3};
    struct sl_npy a = array(SL_NPY_F4, 1, dim, values), got;
    size_t n = sl_npy_file_bytes(&a);
    uint8_t *file = malloc(n);
    sl_npy_encode(&a, file);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *part = malloc(cut + (cut == 0));
        memcpy(part, file, cut);
        struct sl_err err;
        assert_int_equal(sl_npy_parse("f", part, cut, &got, &err), SL_E_INPUT);
        free(part);
    }
    free(file);
}

static void values_convert_without_surprise(void **state)
{
    const uint64_t big[2] = {UINT64_C(1) << 63, 3};
    const double real[2] = {0.1, -1e300};
    const int8_t small[2] = {-128, 127};
    const size_t dim[1] = {2};
    int64_t integer[2];
    float f[2];
    double d[2];
    struct sl_err err;
    struct sl_npy a = array(SL_NPY_U8, 1, dim, big);
    assert_int_equal(sl_npy_integers("f", &a, integer, &err), SL_E_RANGE);
    sl_npy_doubles(&a, d);
    assert_true(d[0] == 0x1p63 && d[1] == 3);
    a = array(SL_NPY_F8, 1, dim, real);
    sl_npy_floats(&a, f);
    assert_true(f[0] == 0.1f && f[1] < -3e38f);
    assert_int_equal(sl_npy_integers("f", &a, integer, &err), SL_E_INPUT);
    a = array(SL_NPY_I1, 1, dim, small);
    assert_int_equal(sl_npy_integers("f", &a, integer, &err), SL_OK);
    assert_int_equal(integer[0], -128);
    sl_npy_floats(&a, f);
    assert_true(f[0] == -128 && f[1] == 127);
}

/* --- .npz ------------------------------------------------------------------------- */

static struct bytes two_arrays(void)
{
    static const float a[6] = {1, -2, 3, 4, 5, 6};
    static const uint8_t b[3] = {7, 8, 9};
    const size_t dim_a[2] = {2, 3}, dim_b[1] = {3};
    const struct sl_npz_item items[2] = {{"fc1.weight", array(SL_NPY_F4, 2, dim_a, a)},
                                         {"b", array(SL_NPY_U1, 1, dim_b, b)}};
    struct bytes out = {0};
    assert_int_equal(sl_npz_encode(items, 2, &out.at, &out.n, NULL), SL_OK);
    return out;
}

static void archives_survive_writing(void **state)
{
    struct bytes b = two_arrays();
    struct sl_npz z;
    struct sl_err err;
    struct sl_npy a;
    assert_int_equal(sl_npz_open("f.npz", b.at, b.n, &z, &err), SL_OK);
    assert_int_equal(z.n_entries, 2);
    assert_string_equal(z.entry[0].name, "fc1.weight");
    assert_int_equal(sl_npz_get(&z, "fc1.weight", &a, &err), SL_OK);
    assert_int_equal(a.n, 6);
    float x[6];
    sl_npy_floats(&a, x);
    assert_true(x[1] == -2 && x[5] == 6);
    sl_npy_deinit(&a);
    assert_int_equal(sl_npz_get(&z, "c", &a, &err), SL_E_NOTFOUND);
    assert_string_equal(err.msg, "f.npz: no array c");
    sl_npz_deinit(&z);
    sl_npz_deinit(&z);
    sl_npz_deinit(NULL);
    free(b.at);
}

static void an_archive_of_nothing_is_an_archive(void **state)
{
    struct bytes b = {0};
    struct sl_npz z;
    assert_int_equal(sl_npz_encode(NULL, 0, &b.at, &b.n, NULL), SL_OK);
    assert_int_equal(sl_npz_open("f", b.at, b.n, &z, NULL), SL_OK);
    assert_int_equal(z.n_entries, 0);
    sl_npz_deinit(&z);
    free(b.at);
}

static void an_archive_cut_anywhere_is_refused(void **state)
{
    struct bytes b = two_arrays();
    for (size_t cut = 0; cut < b.n; cut++) {
        uint8_t *part = malloc(cut + (cut == 0));
        memcpy(part, b.at, cut);
        struct sl_npz z;
        struct sl_err err;
        assert_int_equal(sl_npz_open("f", part, cut, &z, &err), SL_E_INPUT);
        free(part);
    }
    free(b.at);
}

/* Every byte that names, places or holds values is covered by a check; time, version,
 * attributes and the like mean nothing. */
static void a_changed_byte_never_changes_values(void **state)
{
    struct bytes b = two_arrays();
    struct sl_npz good, z = {0};
    assert_int_equal(sl_npz_open("f", b.at, b.n, &good, NULL), SL_OK);
    size_t refused = 0;
    for (size_t i = 0; i < b.n; i++) {
        struct bytes copy = {malloc(b.n), b.n};
        memcpy(copy.at, b.at, b.n);
        copy.at[i] ^= 0x41;
        struct sl_err err;
        bool ok = sl_npz_open("f", copy.at, copy.n, &z, &err) == SL_OK;
        for (size_t k = 0; ok && k < 2; k++) {
            struct sl_npy want, got;
            ok = sl_npz_get(&z, good.entry[k].name, &got, &err) == SL_OK;
            if (!ok)
                break;
            assert_int_equal(sl_npz_get(&good, good.entry[k].name, &want, NULL), SL_OK);
            assert_alike(&want, &got);
            sl_npy_deinit(&got);
        }
        refused += !ok;
        sl_npz_deinit(&z);
        z = (struct sl_npz){0};
        free(copy.at);
    }
    assert_in_range(refused, b.n / 2, b.n);
    sl_npz_deinit(&good);
    free(b.at);
}

/* Writes v into the bytes at the first place behind `from` where `mark` stands, plus
 * `at`. */
static void patch32(struct bytes b, const char *mark, size_t at, uint32_t v)
{
    for (size_t i = 0; i + at + 4 <= b.n; i++)
        if (memcmp(b.at + i, mark, 4) == 0) {
            for (int k = 0; k < 4; k++)
                b.at[i + at + (size_t)k] = (uint8_t)(v >> (8 * k));
            return;
        }
    fail();
}

static void impossible_directories_are_refused(void **state)
{
    static const struct {
        const char *mark;
        size_t at;
        uint32_t value;
        const char *message;
        enum sl_code code;
    } cases[] = {
        {"PK\1\2", 8, 1, "encrypted", SL_E_INPUT}, /* flags, method */
        {"PK\1\2", 8, 12u << 16, "neither stored", SL_E_INPUT},
        {"PK\1\2", 20, 1000000, "two sizes", SL_E_INPUT},
        {"PK\1\2", 20, UINT32_MAX, "4 GiB", SL_E_LIMIT},
        {"PK\1\2", 42, 1000000, "not there", SL_E_INPUT},
        {"PK\1\2", 42, 1, "not there", SL_E_INPUT},
        {"PK\1\2", 28, 65535, "cut or damaged", SL_E_INPUT}, /* name's length */
        {"PK\1\2", 46, 0x0a0d1b7f, "not printable", SL_E_INPUT}, /* name */
        {"PK\5\6", 4, 1, "several parts", SL_E_INPUT},
        {"PK\5\6", 8, 0x00030003, "cut or damaged", SL_E_INPUT},
        {"PK\5\6", 8, 0x00010001, "longer than its entries", SL_E_INPUT},
        {"PK\5\6", 16, 0, "does not end", SL_E_INPUT},
        {"PK\3\4", 26, 0x0000ffff, "into the directory", SL_E_INPUT},
        {"PK\3\4", 26, 0x0001000d, "another name", SL_E_INPUT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bytes b = two_arrays();
        patch32(b, cases[i].mark, cases[i].at, cases[i].value);
        struct sl_npz z;
        struct sl_err err = {0};
        enum sl_code rc = sl_npz_open("f", b.at, b.n, &z, &err);
        if (rc != cases[i].code || strstr(err.msg, cases[i].message) == NULL)
            fail_msg("case %zu: code %d, \"%s\"", i, rc, err.msg);
        free(b.at);
    }
}

static void names_are_checked_before_writing(void **state)
{
    char name[SL_NPZ_NAME + 1];
    memset(name, 'x', sizeof(name));
    name[SL_NPZ_NAME] = '\0';
    const float v = 1;
    struct sl_npy a = array(SL_NPY_F4, 0, NULL, &v);
    const struct sl_npz_item long_name = {name, a}, no_name = {"", a}, two_lines = {"a\nb", a};
    const struct sl_npz_item twice[2] = {{"a", a}, {"a", a}};
    struct bytes b = {0};
    struct sl_err err;
    assert_int_equal(sl_npz_encode(&long_name, 1, &b.at, &b.n, &err), SL_E_LIMIT);
    assert_int_equal(sl_npz_encode(&no_name, 1, &b.at, &b.n, &err), SL_E_LIMIT);
    assert_int_equal(sl_npz_encode(&two_lines, 1, &b.at, &b.n, &err), SL_E_INPUT);
    assert_int_equal(sl_npz_encode(twice, 2, &b.at, &b.n, &err), SL_E_INPUT);
    struct sl_npz_item huge = {"a", a};
    huge.array.bytes = UINT32_MAX;
    assert_int_equal(sl_npz_encode(&huge, 1, &b.at, &b.n, &err), SL_E_LIMIT);
    assert_null(b.at);
}

/* An archive of one deflated entry "a.npy" that says it holds `size` bytes. */
static struct bytes deflated(const uint8_t *npy, size_t n, size_t size)
{
    static const struct sl_npz_item none;
    struct sl_npz_item item = {"a", none.array};
    struct bytes b = {0};
    assert_int_equal(sl_npz_encode(&item, 1, &b.at, &b.n, NULL), SL_OK);
    uint8_t packed[4096];
    z_stream s = {.next_in = (Bytef *)(uintptr_t)npy,
                  .avail_in = (uInt)n,
                  .next_out = packed,
                  .avail_out = sizeof(packed)};
    assert_int_equal(deflateInit2(&s, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
    size_t m = sizeof(packed) - s.avail_out, old = sl_npy_file_bytes(&none.array);
    deflateEnd(&s);
    size_t head = 30 + 5, tail = b.n - head - old;
    struct bytes out = {malloc(head + m + tail), head + m + tail};
    memcpy(out.at, b.at, head);
    memcpy(out.at + head, packed, m);
    memcpy(out.at + head + m, b.at + head + old, tail);
    free(b.at);
    patch32(out, "PK\1\2", 8, 8u << 16);
    patch32(out, "PK\1\2", 16, (uint32_t)crc32(0, npy, (uInt)n));
    patch32(out, "PK\1\2", 20, (uint32_t)m);
    patch32(out, "PK\1\2", 24, (uint32_t)size);
    patch32(out, "PK\5\6", 16, (uint32_t)(head + m));
    return out;
}

static void deflated_entries_are_inflated_to_their_size_and_no_further(void **state)
{
    static float values[300];
    const size_t dim[1] = {300};
    values[299] = 5;
    struct sl_npy a = array(SL_NPY_F4, 1, dim, values), got;
    uint8_t npy[2048];
    size_t n = sl_npy_file_bytes(&a);
    sl_npy_encode(&a, npy);
    struct sl_npz z;
    struct sl_err err;

    struct bytes b = deflated(npy, n, n);
    assert_int_equal(sl_npz_open("f", b.at, b.n, &z, &err), SL_OK);
    assert_int_equal(sl_npz_get(&z, "a", &got, &err), SL_OK);
    assert_alike(&a, &got);
    sl_npy_deinit(&got);
    sl_npz_deinit(&z);
    free(b.at);

    const size_t wrong[] = {n - 1, n + 1, 0};
    for (size_t i = 0; i < 3; i++) {
        b = deflated(npy, n, wrong[i]);
        assert_int_equal(sl_npz_open("f", b.at, b.n, &z, &err), SL_OK);
        assert_int_equal(sl_npz_get(&z, "a", &got, &err), SL_E_INPUT);
        assert_string_equal(err.msg, "f: array a: damaged deflate data");
        sl_npz_deinit(&z);
        free(b.at);
    }
    b = deflated(npy, n, 1u << 30);
    assert_int_equal(sl_npz_open("f", b.at, b.n, &z, &err), SL_E_INPUT);
    free(b.at);
}

/* --- files of NumPy --------------------------------------------------------------- */

static void check_field(const struct sl_npz *z, const char *name, const json_t *want)
{
    struct sl_npy a;
    struct sl_err err = {0};
    if (sl_npz_get(z, name, &a, &err) != SL_OK)
        fail_msg("%s", err.msg);
    const json_t *shape = json_object_get(want, "shape");
    assert_int_equal(a.n_dims, json_array_size(shape));
    for (unsigned i = 0; i < a.n_dims; i++)
        assert_int_equal(a.dim[i], json_integer_value(json_array_get(shape, i)));
    char dtype[16];
    const char *descr = sl_npy_descr(a.dtype);
    snprintf(dtype, sizeof(dtype), "%s%zu",
             descr[1] == 'f'   ? "float"
             : descr[1] == 'i' ? "int"
                               : "uint",
             8 * sl_npy_value_bytes(a.dtype));
    assert_string_equal(dtype, json_string_value(json_object_get(want, "dtype")));
    sl_npy_deinit(&a);
}

static void golden_archives_hold_what_their_manifest_says(void **state)
{
    const char *golden = getenv("SL_GOLDEN");
    if (golden == NULL)
        skip();
    char path[1024];
    snprintf(path, sizeof(path), "%s/accel/manifest.json", golden);
    json_t *manifest = json_load_file(path, 0, NULL);
    assert_non_null(manifest);
    size_t i, n_fields = 0;
    json_t *c;
    json_array_foreach(json_object_get(manifest, "cases"), i, c)
    {
        snprintf(path, sizeof(path), "%s/accel/%s", golden,
                 json_string_value(json_object_get(c, "file")));
        struct bytes b = read_whole(path);
        struct sl_npz z;
        struct sl_err err = {0};
        if (sl_npz_open(path, b.at, b.n, &z, &err) != SL_OK)
            fail_msg("%s", err.msg);
        json_t *fields = json_object_get(c, "fields"), *field;
        const char *name;
        assert_int_equal(z.n_entries, json_object_size(fields));
        json_object_foreach(fields, name, field)
        {
            check_field(&z, name, field);
            n_fields++;
        }
        sl_npz_deinit(&z);
        free(b.at);
    }
    json_decref(manifest);
    assert_in_range(n_fields, 500, 100000);
}

static void numpy_reads_what_we_write(void **state)
{
    if (!have_numpy())
        skip();
    char folder[] = "/tmp/sl_npy_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    struct bytes b = two_arrays();
    snprintf(path, sizeof(path), "%s/a.npz", folder);
    write_whole(path, b);
    free(b.at);
    assert_true(python(
        folder, "import sys, numpy as np\n"
                "z = np.load(sys.argv[1] + '/a.npz')\n"
                "assert sorted(z) == ['b', 'fc1.weight']\n"
                "a = z['fc1.weight']\n"
                "assert a.dtype == np.float32 and a.shape == (2, 3)\n"
                "assert a.tolist() == [[1, -2, 3], [4, 5, 6]]\n"
                "assert z['b'].tolist() == [7, 8, 9]\n"
                "import zipfile\n"
                "assert zipfile.ZipFile(sys.argv[1] + '/a.npz').testzip() is None"));
    unlink(path);
    rmdir(folder);
}

static void we_read_what_numpy_writes(void **state)
{
    if (!have_numpy())
        skip();
    char folder[] = "/tmp/sl_npy_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    assert_true(python(folder,
                       "import sys, numpy as np\n"
                       "f = sys.argv[1]\n"
                       "a = {t: (np.arange(24) * 3).astype(t).reshape(2, 3, 4) for t in "
                       "('f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8')}\n"
                       "a.update(scalar=np.float32(72), empty=np.zeros((3, 0), 'f4'))\n"
                       "np.savez(f + '/s.npz', **a)\n"
                       "np.savez_compressed(f + '/d.npz', **a)"));
    for (int k = 0; k < 2; k++) {
        snprintf(path, sizeof(path), "%s/%s.npz", folder, k == 0 ? "s" : "d");
        struct bytes b = read_whole(path);
        struct sl_npz z;
        struct sl_npy a;
        assert_int_equal(sl_npz_open(path, b.at, b.n, &z, NULL), SL_OK);
        assert_int_equal(z.n_entries, 12);
        for (int t = SL_NPY_F4; t <= SL_NPY_U8; t++) {
            double x[24];
            assert_int_equal(
                sl_npz_get(&z, sl_npy_descr((enum sl_npy_dtype)t) + 1, &a, NULL), SL_OK);
            assert_int_equal(a.dtype, t);
            assert_int_equal(a.n, 24);
            sl_npy_doubles(&a, x);
            for (int i = 0; i < 24; i++)
                assert_true(x[i] == 3 * i);
            sl_npy_deinit(&a);
        }
        float scalar;
        assert_int_equal(sl_npz_get(&z, "scalar", &a, NULL), SL_OK);
        sl_npy_floats(&a, &scalar);
        assert_true(a.n_dims == 0 && scalar == 72);
        sl_npy_deinit(&a);
        assert_int_equal(sl_npz_get(&z, "empty", &a, NULL), SL_OK);
        assert_true(a.n == 0 && a.dim[0] == 3);
        sl_npy_deinit(&a);
        sl_npz_deinit(&z);
        free(b.at);
        unlink(path);
    }
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_read_whatever_their_order_and_blanks),
        cmocka_unit_test(version_2_has_a_longer_length),
        cmocka_unit_test(bad_headers_are_refused_with_the_reason),
        cmocka_unit_test(other_versions_and_files_are_refused),
        cmocka_unit_test(arrays_of_all_types_survive_writing),
        cmocka_unit_test(the_longest_shape_fits_its_header),
        cmocka_unit_test(a_npy_cut_anywhere_is_refused),
        cmocka_unit_test(values_convert_without_surprise),
        cmocka_unit_test(archives_survive_writing),
        cmocka_unit_test(an_archive_of_nothing_is_an_archive),
        cmocka_unit_test(an_archive_cut_anywhere_is_refused),
        cmocka_unit_test(a_changed_byte_never_changes_values),
        cmocka_unit_test(impossible_directories_are_refused),
        cmocka_unit_test(names_are_checked_before_writing),
        cmocka_unit_test(deflated_entries_are_inflated_to_their_size_and_no_further),
        cmocka_unit_test(golden_archives_hold_what_their_manifest_says),
        cmocka_unit_test(numpy_reads_what_we_write),
        cmocka_unit_test(we_read_what_numpy_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
