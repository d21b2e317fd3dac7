/* SPDX-License-Identifier: Apache-2.0 */
#include "common/npy.h"

#include <assert.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are copied as they are");

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6
#define PREFIX_BYTES 10 /* magic, version, length of version 1 */
#define HEADER_ALIGN 64
#define HEADER_TEXT_MAX 384 /* longest text we write: 8 dimensions of 20 digits */

struct dtype {
    const char *descr;
    size_t bytes;
};

static const struct dtype dtypes[] = {
#define DTYPE(name, descr, bytes) [name] = {descr, bytes},
    SL_NPY_DTYPES(DTYPE)
#undef DTYPE
};

#define N_DTYPES (sizeof(dtypes) / sizeof(dtypes[0]))

void sl_npy_deinit(struct sl_npy *a)
{
    if (a == NULL)
        return;
    free(a->owned);
    *a = (struct sl_npy){0};
}

const char *sl_npy_descr(enum sl_npy_dtype dtype)
{
    return dtypes[dtype].descr;
}

size_t sl_npy_value_bytes(enum sl_npy_dtype dtype)
{
    return dtypes[dtype].bytes;
}

/* --- shapes ----------------------------------------------------------------------- */

/* Fills in n and bytes; false when they don't fit in a size_t even without the zero
 * dimensions. */
static bool count(struct sl_npy *a)
{
    size_t n = 1;
    bool empty = false;
    for (unsigned i = 0; i < a->n_dims; i++) {
        if (a->dim[i] == 0)
            empty = true;
        else if (!sl_size_mul(n, a->dim[i], &n))
            return false;
    }
    size_t bytes;
    if (!sl_size_mul(n, dtypes[a->dtype].bytes, &bytes))
        return false;
    a->n = empty ? 0 : n;
    a->bytes = empty ? 0 : bytes;
    return true;
}

enum sl_code sl_npy_make(enum sl_npy_dtype dtype, unsigned n_dims, const size_t *dim,
                         const void *data, struct sl_npy *ret, struct sl_err *err)
{
    if (n_dims > SL_NPY_DIMS)
        return sl_err_set(err, SL_E_LIMIT, "array of %u dimensions (at most %d)", n_dims,
                          SL_NPY_DIMS);
    struct sl_npy a = {.dtype = dtype, .n_dims = n_dims, .data = data};
    for (unsigned i = 0; i < n_dims; i++)
        a.dim[i] = dim[i];
    if (!count(&a))
        return sl_err_set(err, SL_E_LIMIT, "array of more bytes than memory can hold");
    *ret = a;
    return SL_OK;
}

/* --- the header: a Python dictionary of three known keys -------------------------- */

struct text {
    const char *where;
    const char *at, *end;
    struct sl_err *err;
};

static enum sl_code bad(const struct text *t, const char *what)
{
    return sl_err_set(t->err, SL_E_INPUT, "%s: .npy header: %s", t->where, what);
}

static void skip_blanks(struct text *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\t' || *t->at == '\n'))
        t->at++;
}

/* Takes `c` with the blanks before it. */
static bool take(struct text *t, char c)
{
    skip_blanks(t);
    if (t->at == t->end || *t->at != c)
        return false;
    t->at++;
    return true;
}

static bool take_word(struct text *t, const char *word)
{
    skip_blanks(t);
    size_t n = strlen(word);
    if ((size_t)(t->end - t->at) < n || memcmp(t->at, word, n) != 0)
        return false;
    t->at += n;
    return true;
}

/* 'text' or "text" of at most `room` - 1 characters. */
static bool take_string(struct text *t, char *ret, size_t room)
{
    char quote = '\'';
    if (!take(t, quote)) {
        quote = '"';
        if (!take(t, quote))
            return false;
    }
    const char *stop = memchr(t->at, quote, (size_t)(t->end - t->at));
    if (stop == NULL || (size_t)(stop - t->at) >= room)
        return false;
    size_t n = (size_t)(stop - t->at);
    memcpy(ret, t->at, n);
    ret[n] = '\0';
    t->at = stop + 1;
    return true;
}

static bool take_size(struct text *t, size_t *ret)
{
    skip_blanks(t);
    const char *start = t->at;
    size_t v = 0;
    for (; t->at < t->end && isdigit((unsigned char)*t->at); t->at++)
        if (!sl_size_mul(v, 10, &v) || !sl_size_add(v, (size_t)(*t->at - '0'), &v))
            return false;
    *ret = v;
    return t->at > start;
}

static enum sl_code parse_descr(struct text *t, struct sl_npy *a)
{
    char descr[16];
    if (!take_string(t, descr, sizeof(descr)))
        return bad(t, "'descr' is no plain type");
    for (size_t i = 0; i < N_DTYPES; i++) {
        const char *known = dtypes[i].descr;
        bool byte =
            known[0] == '|' && (descr[0] == '<' || descr[0] == '>' || descr[0] == '|');
        if (strcmp(descr, known) == 0 || (byte && strcmp(descr + 1, known + 1) == 0)) {
            a->dtype = (enum sl_npy_dtype)i;
            return SL_OK;
        }
    }
    for (char *c = descr; *c != '\0'; c++)
        if (!isprint((unsigned char)*c))
            *c = '?';
    return sl_err_set(t->err, SL_E_INPUT,
                      "%s: .npy of type %s (allowed: f4 f8 i1 i2 i4 i8 u1 u2 u4 u8, "
                      "little-endian)",
                      t->where, descr);
}

static enum sl_code parse_order(struct text *t)
{
    if (take_word(t, "False"))
        return SL_OK;
    if (take_word(t, "True"))
        return sl_err_set(t->err, SL_E_INPUT,
                          "%s: .npy in Fortran order (C order allowed: "
                          "save numpy.ascontiguousarray(a))",
                          t->where);
    return bad(t, "'fortran_order' is neither True nor False");
}

static enum sl_code parse_shape(struct text *t, struct sl_npy *a)
{
    if (!take(t, '('))
        return bad(t, "'shape' is no tuple");
    bool comma = true;
    while (!take(t, ')')) {
        size_t v;
        if (!comma || !take_size(t, &v))
            return bad(t, "'shape' is no tuple of numbers from 0");
        if (a->n_dims == SL_NPY_DIMS)
            return sl_err_set(t->err, SL_E_LIMIT, "%s: .npy of more than %d dimensions",
                              t->where, SL_NPY_DIMS);
        a->dim[a->n_dims++] = v;
        comma = take(t, ',');
    }
    if (a->n_dims == 1 && !comma)
        return bad(t, "'shape' is a number (a tuple such as (5,) is allowed)");
    return SL_OK;
}

enum { KEY_DESCR = 1, KEY_ORDER = 2, KEY_SHAPE = 4, KEY_ALL = 7 };

static enum sl_code parse_pair(struct text *t, unsigned *seen, struct sl_npy *a)
{
    char key[16];
    if (!take_string(t, key, sizeof(key)) || !take(t, ':'))
        return bad(t, "no dictionary of descr, fortran_order and shape");
    unsigned bit = strcmp(key, "descr") == 0           ? KEY_DESCR
                   : strcmp(key, "fortran_order") == 0 ? KEY_ORDER
                   : strcmp(key, "shape") == 0         ? KEY_SHAPE
                                                       : 0;
    if (bit == 0 || (*seen & bit) != 0)
        return bad(t, "unknown or repeated key (descr, fortran_order, shape once each)");
    *seen |= bit;
    return bit == KEY_DESCR   ? parse_descr(t, a)
           : bit == KEY_ORDER ? parse_order(t)
                              : parse_shape(t, a);
}

static enum sl_code parse_header(struct text *t, struct sl_npy *a)
{
    unsigned seen = 0;
    if (!take(t, '{'))
        return bad(t, "no dictionary");
    bool comma = true;
    while (!take(t, '}')) {
        if (!comma)
            return bad(t, "comma or } missing");
        enum sl_code rc = parse_pair(t, &seen, a);
        if (rc != SL_OK)
            return rc;
        comma = take(t, ',');
    }
    skip_blanks(t);
    if (t->at != t->end)
        return bad(t, "bytes behind the dictionary");
    if (seen != KEY_ALL)
        return bad(t, "descr, fortran_order or shape missing");
    return SL_OK;
}

/* Where the header's text begins and ends. */
static enum sl_code find_header(const char *where, const uint8_t *bytes, size_t n,
                                size_t *ret_start, size_t *ret_len, struct sl_err *err)
{
    if (n < PREFIX_BYTES || memcmp(bytes, MAGIC, MAGIC_BYTES) != 0)
        return sl_err_set(err, SL_E_INPUT, "%s: no .npy", where);
    uint8_t major = bytes[6];
    if ((major != 1 && major != 2) || bytes[7] != 0)
        return sl_err_set(err, SL_E_INPUT,
                          "%s: .npy of version %d.%d (1.0 and 2.0 allowed)", where, major,
                          bytes[7]);
    size_t start = PREFIX_BYTES + (major == 2 ? 2 : 0);
    if (n < start)
        return sl_err_set(err, SL_E_INPUT, "%s: .npy cut in its header", where);
    size_t len = bytes[8] | (size_t)bytes[9] << 8;
    if (major == 2)
        len |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (len > n - start)
        return sl_err_set(err, SL_E_INPUT, "%s: .npy cut in its header", where);
    *ret_start = start;
    *ret_len = len;
    return SL_OK;
}

enum sl_code sl_npy_parse(const char *where, const uint8_t *bytes, size_t n,
                          struct sl_npy *ret, struct sl_err *err)
{
    size_t start = 0, len = 0;
    enum sl_code rc = find_header(where, bytes, n, &start, &len, err);
    if (rc != SL_OK)
        return rc;
    struct sl_npy a = {0};
    struct text t = {.where = where,
                     .at = (const char *)bytes + start,
                     .end = (const char *)bytes + start + len,
                     .err = err};
    rc = parse_header(&t, &a);
    if (rc != SL_OK)
        return rc;
    if (!count(&a))
        return sl_err_set(err, SL_E_INPUT, "%s: .npy whose shape is beyond any memory",
                          where);
    if (a.bytes != n - start - len)
        return sl_err_set(
            err, SL_E_INPUT, "%s: .npy %s: its shape needs %zu bytes, %zu follow", where,
            a.bytes > n - start - len ? "cut" : "too long", a.bytes, n - start - len);
    a.data = bytes + start + len;
    *ret = a;
    return SL_OK;
}

/* --- writing ---------------------------------------------------------------------- */

/* The header's text without padding; returns its length. */
static size_t header_text(const struct sl_npy *a, char text[HEADER_TEXT_MAX])
{
    size_t n = (size_t)snprintf(text, HEADER_TEXT_MAX,
                                "{'descr': '%s', 'fortran_order': False, 'shape': (",
                                dtypes[a->dtype].descr);
    for (unsigned i = 0; i < a->n_dims; i++)
        n += (size_t)snprintf(text + n, HEADER_TEXT_MAX - n, i == 0 ? "%zu" : ", %zu",
                              a->dim[i]);
    n += (size_t)snprintf(text + n, HEADER_TEXT_MAX - n,
                          a->n_dims == 1 ? ",), }" : "), }");
    return n;
}

/* Bytes before the values, given the length of the text: one newline at least, then
 * padding. */
static size_t header_bytes(size_t text)
{
    size_t n = PREFIX_BYTES + text + 1;
    return (n + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN;
}

size_t sl_npy_file_bytes(const struct sl_npy *a)
{
    char text[HEADER_TEXT_MAX];
    return header_bytes(header_text(a, text)) + a->bytes;
}

void sl_npy_encode(const struct sl_npy *a, uint8_t *ret)
{
    char text[HEADER_TEXT_MAX];
    size_t n = header_text(a, text), total = header_bytes(n), len = total - PREFIX_BYTES;
    memcpy(ret, MAGIC "\x01\x00", MAGIC_BYTES + 2);
    ret[8] = (uint8_t)len;
    ret[9] = (uint8_t)(len >> 8);
    memcpy(ret + PREFIX_BYTES, text, n);
    memset(ret + PREFIX_BYTES + n, ' ', total - PREFIX_BYTES - n - 1);
    ret[total - 1] = '\n';
    if (a->bytes > 0)
        memcpy(ret + total, a->data, a->bytes);
}

/* --- values ----------------------------------------------------------------------- */

/* to[i] = (to_type) value i of type `from_type`, which stands on no boundary */
#define CONVERT(from_type, to_type)                                                      \
    for (size_t i = 0; i < a->n; i++) {                                                  \
        from_type v;                                                                     \
        memcpy(&v, a->data + i * sizeof(v), sizeof(v));                                  \
        ret[i] = (to_type)v;                                                             \
    }                                                                                    \
    break

#define CONVERT_INTEGERS(to_type)                                                        \
    case SL_NPY_I1:                                                                      \
        CONVERT(int8_t, to_type);                                                        \
    case SL_NPY_I2:                                                                      \
        CONVERT(int16_t, to_type);                                                       \
    case SL_NPY_I4:                                                                      \
        CONVERT(int32_t, to_type);                                                       \
    case SL_NPY_I8:                                                                      \
        CONVERT(int64_t, to_type);                                                       \
    case SL_NPY_U1:                                                                      \
        CONVERT(uint8_t, to_type);                                                       \
    case SL_NPY_U2:                                                                      \
        CONVERT(uint16_t, to_type);                                                      \
    case SL_NPY_U4:                                                                      \
        CONVERT(uint32_t, to_type)

void sl_npy_floats(const struct sl_npy *a, float *ret)
{
    switch (a->dtype) {
    case SL_NPY_F4:
        if (a->bytes > 0)
            memcpy(ret, a->data, a->bytes);
        break;
    case SL_NPY_F8:
        CONVERT(double, float);
        CONVERT_INTEGERS(float);
    case SL_NPY_U8:
        CONVERT(uint64_t, float);
    }
}

void sl_npy_doubles(const struct sl_npy *a, double *ret)
{
    switch (a->dtype) {
    case SL_NPY_F4:
        CONVERT(float, double);
    case SL_NPY_F8:
        if (a->bytes > 0)
            memcpy(ret, a->data, a->bytes);
        break;
        CONVERT_INTEGERS(double);
    case SL_NPY_U8:
        CONVERT(uint64_t, double);
    }
}

enum sl_code sl_npy_integers(const char *where, const struct sl_npy *a, int64_t *ret,
                             struct sl_err *err)
{
    switch (a->dtype) {
    case SL_NPY_F4:
    case SL_NPY_F8:
        return sl_err_set(err, SL_E_INPUT, "%s: values of type %s (integers allowed)",
                          where, sl_npy_descr(a->dtype));
    case SL_NPY_U8:
        for (size_t i = 0; i < a->n; i++) {
            uint64_t v;
            memcpy(&v, a->data + i * sizeof(v), sizeof(v));
            if (v > INT64_MAX)
                return sl_err_set(err, SL_E_RANGE, "%s: value %zu is above 2^63 - 1",
                                  where, i);
            ret[i] = (int64_t)v;
        }
        break;
        CONVERT_INTEGERS(int64_t);
    }
    return SL_OK;
}
