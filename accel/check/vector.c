/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/check/vector.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "accel/check/case_file.h"
#include "common/mem.h"

/* --- families: their kinds, and what refuses a tensor for each p_format --------------
 */

static const struct sl_vector_kind *const families[] = {
    sl_vector_kinds_fast,
    sl_vector_kinds_tr,
    sl_vector_kinds_rtn,
};

static void (*const rejects[])(struct sl_vector *v) = {
    sl_vector_reject_fast,
    sl_vector_reject_tr,
    sl_vector_reject_rtn,
};

#define N_REJECTS (sizeof(rejects) / sizeof(rejects[0]))

static void run_reject(struct sl_vector *v)
{
    char text[24];
    int64_t format = sl_vector_int(v, "p_format", 0);
    if (v->failed)
        return;
    if (format >= 0 && (size_t)format < N_REJECTS && rejects[format] != NULL) {
        rejects[format](v);
        return;
    }
    snprintf(text, sizeof(text), "%" PRId64, format);
    sl_vector_fail(v, "p_format", "-", "a known format", text);
}

static void run_kind(struct sl_vector *v)
{
    if (strcmp(v->kind, "reject") == 0) {
        run_reject(v);
        return;
    }
    for (size_t f = 0; f < sizeof(families) / sizeof(families[0]); f++)
        for (const struct sl_vector_kind *k = families[f]; k != NULL && k->kind != NULL;
             k++)
            if (strcmp(k->kind, v->kind) == 0) {
                k->run(v);
                return;
            }
    sl_vector_fail(v, "kind", "-", "a known kind", v->kind);
}

/* --- memory --------------------------------------------------------------------------
 */

void *sl_vector_room(struct sl_vector *v, size_t n, size_t size)
{
    void *p = v->n_rooms < SL_VECTOR_ROOMS ? sl_calloc(n + 1, size) : NULL;
    if (p == NULL) {
        sl_vector_fail(v, "case", "-", "memory", "none");
        return NULL;
    }
    v->room[v->n_rooms++] = p;
    return p;
}

static void leave_rooms(struct sl_vector *v)
{
    while (v->n_rooms > 0)
        free(v->room[--v->n_rooms]);
}

/* --- arrays --------------------------------------------------------------------------
 */

static struct sl_vector_array *array_of(struct sl_vector *v, const char *name)
{
    for (size_t i = 0; i < v->n_arrays; i++)
        if (strcmp(v->array[i].name, name) == 0)
            return &v->array[i];
    return NULL;
}

const struct sl_npy *sl_vector_find(const struct sl_vector *v, const char *name)
{
    const struct sl_vector_array *a = array_of((struct sl_vector *)v, name);
    return a == NULL ? NULL : &a->a;
}

const struct sl_npy *sl_vector_need(struct sl_vector *v, const char *name,
                                    enum sl_npy_dtype dtype)
{
    const struct sl_npy *a = sl_vector_find(v, name);
    if (a != NULL && a->dtype == dtype)
        return a;
    sl_vector_fail(v, name, "-", sl_npy_descr(dtype),
                   a == NULL ? "none" : sl_npy_descr(a->dtype));
    return NULL;
}

/* Value i of an array of any integer type, as 64 bits: of a signed type extended by its
 * sign. */
static bool integer_at(const struct sl_npy *a, size_t i, uint64_t *ret)
{
    uint64_t bits = 0;
    size_t size = sl_npy_value_bytes(a->dtype);
    if (i >= a->n || a->dtype == SL_NPY_F4 || a->dtype == SL_NPY_F8)
        return false;
    memcpy(&bits, a->data + i * size, size);
    bool is_signed = a->dtype == SL_NPY_I1 || a->dtype == SL_NPY_I2 ||
                     a->dtype == SL_NPY_I4 || a->dtype == SL_NPY_I8;
    if (is_signed && size < 8 && (bits >> (8 * size - 1)) != 0)
        bits |= ~UINT64_C(0) << (8 * size);
    *ret = bits;
    return true;
}

uint64_t sl_vector_u64(struct sl_vector *v, const char *name, size_t i)
{
    char index[24];
    uint64_t value = 0;
    const struct sl_npy *a = sl_vector_find(v, name);
    if (a != NULL && integer_at(a, i, &value))
        return value;
    snprintf(index, sizeof(index), "%zu", i);
    sl_vector_fail(v, name, index, "an integer", "none");
    return 0;
}

int64_t sl_vector_int(struct sl_vector *v, const char *name, size_t i)
{
    return (int64_t)sl_vector_u64(v, name, i);
}

/* --- comparing -----------------------------------------------------------------------
 */

void sl_vector_fail(struct sl_vector *v, const char *field, const char *index,
                    const char *expected, const char *got)
{
    if (!v->failed)
        snprintf(v->failure, sizeof(v->failure), "%.60s, %.40s, %.60s, %.60s", field,
                 index, expected, got);
    v->failed = true;
}

static void value_text(enum sl_npy_dtype dtype, const uint8_t *value, char ret[48])
{
    struct sl_npy one = {.dtype = dtype, .n = 1, .data = value};
    uint64_t bits = 0;
    double number;
    if (dtype == SL_NPY_F4 || dtype == SL_NPY_F8) {
        sl_npy_doubles(&one, &number);
        memcpy(&bits, value, sl_npy_value_bytes(dtype));
        snprintf(ret, 48, "%.9g (0x%" PRIx64 ")", number, bits);
        return;
    }
    integer_at(&one, 0, &bits);
    if (dtype == SL_NPY_U8)
        snprintf(ret, 48, "%" PRIu64, bits);
    else
        snprintf(ret, 48, "%" PRId64, (int64_t)bits);
}

static void fail_value(struct sl_vector *v, const char *name, size_t i,
                       enum sl_npy_dtype dtype, const uint8_t *want, const uint8_t *got)
{
    char index[24], expected[48], have[48];
    snprintf(index, sizeof(index), "%zu", i);
    value_text(dtype, want, expected);
    value_text(dtype, got, have);
    sl_vector_fail(v, name, index, expected, have);
}

/* The out array of that name with values first .. first + n - 1, or NULL and a failure.
 */
static struct sl_vector_array *expected_array(struct sl_vector *v, const char *name,
                                              size_t first, size_t n)
{
    char need[32], have[24];
    struct sl_vector_array *a = array_of(v, name);
    if (a == NULL) {
        sl_vector_fail(v, name, "-", "an array", "none");
        return NULL;
    }
    a->compared = true;
    if (first <= a->a.n && n <= a->a.n - first)
        return a;
    snprintf(need, sizeof(need), "%zu values", first + n);
    snprintf(have, sizeof(have), "%zu", a->a.n);
    sl_vector_fail(v, name, "-", need, have);
    return NULL;
}

void sl_vector_expect(struct sl_vector *v, const char *name, size_t first,
                      enum sl_npy_dtype dtype, const void *got, size_t n)
{
    struct sl_vector_array *a = expected_array(v, name, first, n);
    size_t size = sl_npy_value_bytes(dtype);
    if (a == NULL)
        return;
    if (a->a.dtype != dtype) {
        sl_vector_fail(v, name, "-", sl_npy_descr(dtype), sl_npy_descr(a->a.dtype));
        return;
    }
    const uint8_t *want = a->a.data + first * size, *have = got;
    for (size_t i = 0; i < n; i++)
        if (memcmp(want + i * size, have + i * size, size) != 0) {
            fail_value(v, name, first + i, dtype, want + i * size, have + i * size);
            return;
        }
}

void sl_vector_expect_int(struct sl_vector *v, const char *name, size_t i, int64_t got)
{
    struct sl_vector_array *a = expected_array(v, name, i, 1);
    char index[24], expected[24], have[24];
    uint64_t want;
    if (a == NULL)
        return;
    if (!integer_at(&a->a, i, &want)) {
        sl_vector_fail(v, name, "-", "an array of integers", sl_npy_descr(a->a.dtype));
        return;
    }
    if ((int64_t)want == got)
        return;
    snprintf(index, sizeof(index), "%zu", i);
    snprintf(expected, sizeof(expected), "%" PRId64, (int64_t)want);
    snprintf(have, sizeof(have), "%" PRId64, got);
    sl_vector_fail(v, name, index, expected, have);
}

/* An expected output that no run looked at is a failure of the check. */
static void demand_all_compared(struct sl_vector *v)
{
    for (size_t i = 0; i < v->n_arrays; i++)
        if (strncmp(v->array[i].name, "out_", 4) == 0 && !v->array[i].compared)
            sl_vector_fail(v, v->array[i].name, "-", "to be computed", "nothing");
}

/* --- loading -------------------------------------------------------------------------
 */

/* The manifest's names of NumPy's types. */
static bool dtype_of(const char *text, enum sl_npy_dtype *ret)
{
    static const struct {
        const char *name;
        enum sl_npy_dtype dtype;
    } known[] = {{"float32", SL_NPY_F4}, {"float64", SL_NPY_F8}, {"int8", SL_NPY_I1},
                 {"int16", SL_NPY_I2},   {"int32", SL_NPY_I4},   {"int64", SL_NPY_I8},
                 {"uint8", SL_NPY_U1},   {"uint16", SL_NPY_U2},  {"uint32", SL_NPY_U4},
                 {"uint64", SL_NPY_U8}};
    for (size_t i = 0; text != NULL && i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(text, known[i].name) == 0) {
            *ret = known[i].dtype;
            return true;
        }
    return false;
}

static bool is_as_said(const struct sl_npy *a, const json_t *about)
{
    enum sl_npy_dtype dtype;
    const json_t *shape = json_object_get(about, "shape"), *d;
    size_t i;
    if (!dtype_of(json_string_value(json_object_get(about, "dtype")), &dtype) ||
        dtype != a->dtype || !json_is_array(shape) || json_array_size(shape) != a->n_dims)
        return false;
    json_array_foreach(shape, i, d)
    {
        if (!json_is_integer(d) || json_integer_value(d) < 0 ||
            (size_t)json_integer_value(d) != a->dim[i])
            return false;
    }
    return true;
}

/* Gives a block of its own, aligned for any type, with at least one byte. */
static bool own_values(struct sl_npy *a)
{
    uint8_t *copy = malloc(a->bytes + 1);
    if (copy == NULL)
        return false;
    if (a->bytes > 0)
        memcpy(copy, a->data, a->bytes);
    free(a->owned);
    a->data = a->owned = copy;
    return true;
}

static enum sl_code load_array(const struct sl_npz *npz, const char *name,
                               const json_t *about, struct sl_vector_array *ret,
                               struct sl_err *err)
{
    if (strlen(name) >= sizeof(ret->name))
        return sl_err_set(err, SL_E_INPUT, "array %.70s: name longer than %zu bytes",
                          name, sizeof(ret->name) - 1);
    enum sl_code rc = sl_npz_get(npz, name, &ret->a, err);
    if (rc != SL_OK)
        return rc;
    strcpy(ret->name, name);
    if (!is_as_said(&ret->a, about))
        return sl_err_set(err, SL_E_INPUT,
                          "array %s: not of the dtype and shape of the manifest", name);
    if (!own_values(&ret->a))
        return sl_err_set(err, SL_E_NOMEM, "array %s", name);
    return SL_OK;
}

static void unload(struct sl_vector *v)
{
    for (size_t i = 0; i < v->n_arrays; i++)
        sl_npy_deinit(&v->array[i].a);
    v->n_arrays = 0;
}

/* All arrays of the file, each of them listed in `fields`; v is empty on failure. */
static enum sl_code load(const char *dir, const json_t *entry, struct sl_vector *v,
                         struct sl_err *err)
{
    struct sl_case_file file = {0};
    const char *path = json_string_value(json_object_get(entry, "file")), *name;
    const json_t *fields = json_object_get(entry, "fields"), *about;
    if (path == NULL || strchr(path, '/') != NULL || v->kind == NULL ||
        !json_is_object(fields) || json_object_size(fields) > SL_VECTOR_ARRAYS)
        return sl_err_set(err, SL_E_INPUT, "case without file, kind or fields");
    enum sl_code rc = sl_case_file_open(dir, path, &file, err);
    if (rc == SL_OK && file.npz.n_entries != json_object_size(fields))
        rc = sl_err_set(err, SL_E_INPUT, "%zu arrays, the manifest lists %zu",
                        file.npz.n_entries, json_object_size(fields));
    json_object_foreach((json_t *)fields, name, about)
    {
        if (rc == SL_OK)
            rc = load_array(&file.npz, name, about, &v->array[v->n_arrays++], err);
    }
    sl_case_file_close(&file);
    if (rc != SL_OK)
        unload(v);
    return rc;
}

/* --- running -------------------------------------------------------------------------
 */

#define NAME_BYTES 128

/* The file's name without ".npz". */
static void case_name(const json_t *entry, char ret[NAME_BYTES])
{
    const char *file = json_string_value(json_object_get(entry, "file"));
    snprintf(ret, NAME_BYTES, "%s", file == NULL ? "(without a file)" : file);
    size_t n = strlen(ret);
    if (n > 4 && strcmp(ret + n - 4, ".npz") == 0)
        ret[n - 4] = '\0';
}

static void check_case(struct sl_cases *c, const char *dir, const json_t *entry,
                       const char *name)
{
    struct sl_err err;
    struct sl_vector v = {.name = name,
                          .kind = json_string_value(json_object_get(entry, "kind"))};
    if (load(dir, entry, &v, &err) != SL_OK) {
        sl_vector_fail(&v, "file", "-", "a readable case", err.msg);
    } else {
        for (size_t i = 0; !v.failed && sl_cases_cpu(i, &v.cpu); i++) {
            run_kind(&v);
            leave_rooms(&v);
        }
        demand_all_compared(&v);
    }
    sl_cases_result(c, name, v.failed ? v.failure : NULL);
    unload(&v);
}

static enum sl_code check_manifest(void *ctx, const char *dir, const json_t *manifest,
                                   struct sl_err *err)
{
    struct sl_cases *c = ctx;
    const json_t *cases = json_object_get(manifest, "cases"), *entry;
    char name[NAME_BYTES];
    size_t i;
    if (!json_is_array(cases)) {
        sl_cases_result(c, sl_cases_last_name(dir), "manifest.json, cases, a list, none");
        return SL_OK;
    }
    json_array_foreach(cases, i, entry)
    {
        case_name(entry, name);
        if (sl_cases_wanted(c, name))
            check_case(c, dir, entry, name);
    }
    return SL_OK;
}

enum sl_code sl_vector_check_dir(struct sl_cases *c, const char *dir, struct sl_err *err)
{
    return sl_cases_walk(c, dir, check_manifest, c, err);
}
