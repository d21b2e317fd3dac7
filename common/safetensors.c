/* SPDX-License-Identifier: Apache-2.0 */
#include "common/safetensors.h"

#include <assert.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are copied as they are");

#define PREFIX_BYTES 8
#define DATA_ALIGN 8 /* the header is padded to a multiple of it */
#define METADATA "__metadata__"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [SL_ST_F32] = {"F32", 4},
    [SL_ST_F16] = {"F16", 2},
    [SL_ST_BF16] = {"BF16", 2},
    [SL_ST_F64] = {"F64", 8},
};

/* --- reading ---------------------------------------------------------------------- */

struct file {
    const char *where;
    const uint8_t *data; /* behind the header */
    size_t n;
    struct sl_err *err;
};

static enum sl_code bad(const struct file *f, const char *tensor, const char *what)
{
    if (tensor == NULL)
        return sl_err_set(f->err, SL_E_INPUT, "%s: safetensors: %s", f->where, what);
    return sl_err_set(f->err, SL_E_INPUT, "%s: tensor \"%s\": %s", f->where, tensor,
                      what);
}

static enum sl_code read_shape(const struct file *f, const json_t *shape,
                               struct sl_safetensor *t)
{
    size_t n_dims = json_array_size(shape); /* 0 for what is no array */
    if (!json_is_array(shape))
        return bad(f, t->name, "\"shape\" is no list");
    if (n_dims > SL_SAFETENSORS_DIMS)
        return sl_err_set(f->err, SL_E_LIMIT,
                          "%s: tensor \"%s\" of %zu dimensions (at most %d)", f->where,
                          t->name, n_dims, SL_SAFETENSORS_DIMS);
    size_t n = 1;
    bool empty = false;
    for (size_t i = 0; i < n_dims; i++) {
        const json_t *v = json_array_get(shape, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return bad(f, t->name, "\"shape\" is no list of numbers from 0");
        t->dim[i] = (size_t)json_integer_value(v);
        if (t->dim[i] == 0)
            empty = true;
        else if (!sl_size_mul(n, t->dim[i], &n))
            return bad(f, t->name, "shape beyond any memory");
    }
    t->n_dims = (unsigned)n_dims;
    t->n = empty ? 0 : n;
    if (!sl_size_mul(t->n, dtypes[t->dtype].bytes, &t->bytes))
        return bad(f, t->name, "shape beyond any memory");
    return SL_OK;
}

static enum sl_code read_dtype(const struct file *f, const json_t *dtype,
                               struct sl_safetensor *t)
{
    const char *name = json_string_value(dtype);
    if (name == NULL)
        return bad(f, t->name, "\"dtype\" is no text");
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            t->dtype = (enum sl_safetensor_dtype)i;
            return SL_OK;
        }
    return bad(f, t->name, "unknown dtype (F32 F16 BF16 F64 allowed)");
}

static enum sl_code read_offsets(const struct file *f, const json_t *offsets,
                                 struct sl_safetensor *t)
{
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) ||
        !json_is_integer(last))
        return bad(f, t->name, "\"data_offsets\" are no two numbers");
    json_int_t from = json_integer_value(first), to = json_integer_value(last);
    if (from < 0 || to < from || (uint64_t)to > f->n)
        return bad(f, t->name, "\"data_offsets\" beyond the file");
    if ((uint64_t)(to - from) != t->bytes)
        return sl_err_set(f->err, SL_E_INPUT,
                          "%s: tensor \"%s\": %lld bytes, its shape needs %zu", f->where,
                          t->name, (long long)(to - from), t->bytes);
    t->data = f->data + from;
    return SL_OK;
}

/* Names go into messages: one line, so printable bytes or UTF-8 only. */
static bool name_fits(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return false;
    return n > 0 && n < SL_SAFETENSORS_NAME;
}

static enum sl_code read_tensor(const struct file *f, const char *name, const json_t *row,
                                struct sl_safetensor *ret)
{
    if (!name_fits(name))
        return bad(f, NULL,
                   "tensor's name is empty, longer than 127 bytes or not printable");
    struct sl_safetensor t = {0};
    strcpy(t.name, name);
    if (json_object_size(row) != 3)
        return bad(f, name, "dtype, shape and data_offsets are needed, and nothing else");
    enum sl_code rc = read_dtype(f, json_object_get(row, "dtype"), &t);
    if (rc == SL_OK)
        rc = read_shape(f, json_object_get(row, "shape"), &t);
    if (rc == SL_OK)
        rc = read_offsets(f, json_object_get(row, "data_offsets"), &t);
    if (rc == SL_OK)
        *ret = t;
    return rc;
}

/* By place; empty tensors share theirs with the next one and come first. */
static int by_offset(const void *pa, const void *pb)
{
    const struct sl_safetensor *a = pa, *b = pb;
    if (a->data != b->data)
        return a->data < b->data ? -1 : 1;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

static enum sl_code check_places(const struct file *f, struct sl_safetensors *s)
{
    if (s->n_tensors > 0)
        qsort(s->tensors, s->n_tensors, sizeof(s->tensors[0]), by_offset);
    const uint8_t *at = f->data;
    for (size_t i = 0; i < s->n_tensors; at += s->tensors[i++].bytes)
        if (s->tensors[i].data != at)
            return bad(f, s->tensors[i].name, "gap before it, or overlap with another");
    return at == f->data + f->n ? SL_OK : bad(f, NULL, "bytes behind the last tensor");
}

static enum sl_code read_metadata(const struct file *f, json_t *metadata,
                                  struct sl_safetensors *s)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return bad(f, NULL, "\"" METADATA "\" is no object");
    s->notes = sl_calloc(json_object_size(metadata) + 1, sizeof(*s->notes));
    if (s->notes == NULL)
        return bad(f, NULL, "no memory for \"" METADATA "\"");
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return bad(f, NULL, "\"" METADATA "\" holds something that is no text");
        struct sl_safetensors_note *note = &s->notes[s->n_notes++];
        note->key = strdup(key);
        note->text = strdup(json_string_value(value));
        if (note->key == NULL || note->text == NULL)
            return bad(f, NULL, "no memory for \"" METADATA "\"");
    }
    return SL_OK;
}

static enum sl_code read_rows(const struct file *f, json_t *header,
                              struct sl_safetensors *s)
{
    const char *name;
    json_t *row;
    json_object_foreach(header, name, row)
    {
        bool metadata = strcmp(name, METADATA) == 0;
        enum sl_code rc = metadata ? read_metadata(f, row, s)
                                   : read_tensor(f, name, row, &s->tensors[s->n_tensors]);
        if (rc != SL_OK)
            return rc;
        s->n_tensors += !metadata;
    }
    return check_places(f, s);
}

static enum sl_code read_header(const struct file *f, json_t *header,
                                struct sl_safetensors *ret)
{
    size_t n = json_object_size(header);
    if (n > SL_SAFETENSORS_TENSORS_MAX)
        return sl_err_set(f->err, SL_E_LIMIT, "%s: %zu tensors (at most %u)", f->where, n,
                          SL_SAFETENSORS_TENSORS_MAX);
    struct sl_safetensors s = {.tensors = sl_calloc(n + 1, sizeof(*s.tensors))};
    if (s.tensors == NULL)
        return sl_err_set(f->err, SL_E_NOMEM, "%s: %zu tensors", f->where, n);
    enum sl_code rc = read_rows(f, header, &s);
    if (rc != SL_OK) {
        sl_safetensors_deinit(&s);
        return rc;
    }
    *ret = s;
    return SL_OK;
}

enum sl_code sl_safetensors_open(const char *where, const uint8_t *bytes, size_t n,
                                 struct sl_safetensors *ret, struct sl_err *err)
{
    struct file f = {.where = where, .err = err};
    if (n < PREFIX_BYTES)
        return bad(&f, NULL, "file cut before its header");
    uint64_t header_bytes;
    memcpy(&header_bytes, bytes, sizeof(header_bytes));
    if (header_bytes > SL_SAFETENSORS_HEADER_MAX)
        return sl_err_set(err, SL_E_LIMIT,
                          "%s: no safetensors, or a header of more than %zu bytes", where,
                          SL_SAFETENSORS_HEADER_MAX);
    if (header_bytes > n - PREFIX_BYTES)
        return bad(&f, NULL, "file cut in its header");
    f.data = bytes + PREFIX_BYTES + header_bytes;
    f.n = n - PREFIX_BYTES - (size_t)header_bytes;
    json_error_t why;
    json_t *header = json_loadb((const char *)bytes + PREFIX_BYTES, (size_t)header_bytes,
                                JSON_REJECT_DUPLICATES, &why);
    if (header == NULL && json_error_code(&why) == json_error_duplicate_key)
        return bad(&f, NULL, "header with a key given twice");
    if (!json_is_object(header)) {
        json_decref(header);
        return bad(&f, NULL, "header is no JSON object");
    }
    enum sl_code rc = read_header(&f, header, ret);
    json_decref(header);
    return rc;
}

void sl_safetensors_deinit(struct sl_safetensors *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n_notes; i++) {
        free((void *)(uintptr_t)s->notes[i].key);
        free((void *)(uintptr_t)s->notes[i].text);
    }
    free(s->notes);
    free(s->tensors);
    *s = (struct sl_safetensors){0};
}

const struct sl_safetensor *sl_safetensors_find(const struct sl_safetensors *s,
                                                const char *name)
{
    for (size_t i = 0; i < s->n_tensors; i++)
        if (strcmp(s->tensors[i].name, name) == 0)
            return &s->tensors[i];
    return NULL;
}

const char *sl_safetensors_note(const struct sl_safetensors *s, const char *key)
{
    for (size_t i = 0; i < s->n_notes; i++)
        if (strcmp(s->notes[i].key, key) == 0)
            return s->notes[i].text;
    return NULL;
}

/* --- values ----------------------------------------------------------------------- */

static float of_bits(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

/* IEEE 754 binary16: sign, 5 bits of exponent (bias 15), 10 of fraction. A denormal is
 * fraction * 2^-24, which a float holds exactly. */
static float of_half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31,
             fraction = h & 1023;
    if (exponent == 0)
        return sign != 0 ? -(float)fraction * 0x1p-24f : (float)fraction * 0x1p-24f;
    if (exponent == 31)
        return of_bits(sign | 0x7f800000 | fraction << 13);
    return of_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
}

void sl_safetensors_floats(const struct sl_safetensor *t, float *ret)
{
    if (t->dtype == SL_ST_F32) {
        if (t->bytes > 0)
            memcpy(ret, t->data, t->bytes);
        return;
    }
    for (size_t i = 0; i < t->n; i++) {
        uint16_t half;
        double real;
        const uint8_t *at = t->data + i * dtypes[t->dtype].bytes;
        if (t->dtype == SL_ST_F64) {
            memcpy(&real, at, sizeof(real));
            ret[i] = (float)real;
            continue;
        }
        memcpy(&half, at, sizeof(half));
        ret[i] = t->dtype == SL_ST_F16 ? of_half(half) : of_bits((uint32_t)half << 16);
    }
}

/* --- writing ---------------------------------------------------------------------- */

static enum sl_code item_bytes(const struct sl_safetensors_item *item, size_t *ret,
                               struct sl_err *err)
{
    size_t n = sizeof(float);
    if (item->n_dims > SL_SAFETENSORS_DIMS)
        return sl_err_set(err, SL_E_LIMIT, "tensor \"%s\" of %u dimensions (at most %d)",
                          item->name, item->n_dims, SL_SAFETENSORS_DIMS);
    for (unsigned i = 0; i < item->n_dims; i++)
        if (item->dim[i] > INT64_MAX || !sl_size_mul(n, item->dim[i], &n))
            return sl_err_set(err, SL_E_LIMIT, "tensor \"%s\" beyond any memory",
                              item->name);
    *ret = n;
    return SL_OK;
}

/* Adds one tensor's row; *at moves behind its values. */
static enum sl_code add_row(json_t *header, const struct sl_safetensors_item *item,
                            size_t *at, struct sl_err *err)
{
    if (!name_fits(item->name) || strcmp(item->name, METADATA) == 0)
        return sl_err_set(
            err, SL_E_INPUT,
            "tensor's name is empty, longer than %d bytes, not printable or "
            "reserved",
            SL_SAFETENSORS_NAME - 1);
    if (json_object_get(header, item->name) != NULL)
        return sl_err_set(err, SL_E_INPUT, "two tensors \"%s\"", item->name);
    size_t bytes = 0, end;
    enum sl_code rc = item_bytes(item, &bytes, err);
    if (rc != SL_OK)
        return rc;
    if (!sl_size_add(*at, bytes, &end) || end > INT64_MAX)
        return sl_err_set(err, SL_E_LIMIT, "safetensors beyond any memory");
    json_t *shape = json_array();
    for (unsigned i = 0; i < item->n_dims; i++)
        json_array_append_new(shape, json_integer((json_int_t)item->dim[i]));
    json_t *row = json_pack("{s:s, s:o, s:[I,I]}", "dtype", "F32", "shape", shape,
                            "data_offsets", (json_int_t)*at, (json_int_t)end);
    if (row == NULL || json_object_set_new(header, item->name, row) != 0)
        return sl_err_set(err, SL_E_INPUT,
                          "tensor's name is not UTF-8, or no memory is left");
    *at = end;
    return SL_OK;
}

static enum sl_code add_notes(json_t *header, const struct sl_safetensors_note *notes,
                              size_t n_notes, struct sl_err *err)
{
    if (n_notes == 0)
        return SL_OK;
    json_t *map = json_object();
    bool ok = json_object_set_new(header, METADATA, map) == 0;
    for (size_t i = 0; ok && i < n_notes; i++)
        ok = json_object_get(map, notes[i].key) == NULL &&
             json_object_set_new(map, notes[i].key, json_string(notes[i].text)) == 0;
    return ok ? SL_OK
              : sl_err_set(err, SL_E_INPUT,
                           "\"" METADATA "\": a key given twice, text that is not "
                           "UTF-8, or no memory is left");
}

/* *ret_text: the JSON header, malloc'd by jansson; *ret_bytes: of all values. */
static enum sl_code header_text(const struct sl_safetensors_item *items, size_t n_items,
                                const struct sl_safetensors_note *notes, size_t n_notes,
                                char **ret_text, size_t *ret_bytes, struct sl_err *err)
{
    if (n_items > SL_SAFETENSORS_TENSORS_MAX)
        return sl_err_set(err, SL_E_LIMIT, "safetensors of %zu tensors (at most %u)",
                          n_items, SL_SAFETENSORS_TENSORS_MAX);
    json_t *header = json_object();
    size_t bytes = 0;
    enum sl_code rc = add_notes(header, notes, n_notes, err);
    for (size_t i = 0; rc == SL_OK && i < n_items; i++)
        rc = add_row(header, &items[i], &bytes, err);
    char *text = rc == SL_OK ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    if (rc != SL_OK)
        return rc;
    if (text == NULL)
        return sl_err_set(err, SL_E_NOMEM, "safetensors header of %zu tensors", n_items);
    *ret_text = text;
    *ret_bytes = bytes;
    return SL_OK;
}

enum sl_code sl_safetensors_encode(const struct sl_safetensors_item *items,
                                   size_t n_items, uint8_t **ret, size_t *ret_n,
                                   struct sl_err *err)
{
    return sl_safetensors_encode_noted(items, n_items, NULL, 0, ret, ret_n, err);
}

enum sl_code sl_safetensors_encode_noted(const struct sl_safetensors_item *items,
                                         size_t n_items,
                                         const struct sl_safetensors_note *notes,
                                         size_t n_notes, uint8_t **ret, size_t *ret_n,
                                         struct sl_err *err)
{
    char *text = NULL;
    size_t bytes = 0, total;
    enum sl_code rc = header_text(items, n_items, notes, n_notes, &text, &bytes, err);
    if (rc != SL_OK)
        return rc;
    size_t n = strlen(text), head = (n + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
    uint8_t *out = sl_size_add(bytes, PREFIX_BYTES + head, &total) ? malloc(total) : NULL;
    if (out == NULL) {
        free(text);
        return sl_err_set(err, SL_E_NOMEM, "safetensors of %zu bytes", bytes);
    }
    const uint64_t head_bytes = head;
    memcpy(out, &head_bytes, PREFIX_BYTES);
    memcpy(out + PREFIX_BYTES, text, n);
    memset(out + PREFIX_BYTES + n, ' ', head - n);
    free(text);
    uint8_t *p = out + PREFIX_BYTES + head;
    for (size_t i = 0; i < n_items; i++) {
        size_t size = 0;
        item_bytes(&items[i], &size, NULL);
        if (size > 0)
            memcpy(p, items[i].values, size);
        p += size;
    }
    *ret = out;
    *ret_n = total;
    return SL_OK;
}
