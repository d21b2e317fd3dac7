/* SPDX-License-Identifier: Apache-2.0 */
#include "common/npz.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/mem.h"

#define END_BYTES 22
#define DIRECTORY_BYTES 46
#define LOCAL_BYTES 30
#define COMMENT_MAX 65535
#define SUFFIX ".npy"
#define SUFFIX_BYTES 4
#define FLAG_ENCRYPTED 1
#define METHOD_STORED 0
#define METHOD_DEFLATED 8
#define VERSION 20 /* of the zip format: 2.0 */
/* the format's first day: archives don't tell when they were made */
#define DATE_1980_01_01 0x21
/* of sizes and offsets: UINT32_MAX stands for "see zip64" */
#define ARCHIVE_MAX ((uint64_t)UINT32_MAX - 1)
#define DEFLATE_MOST 1032 /* bytes that one byte of deflate can stand for, at most */

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) | (uint32_t)get16(p + 2) << 16;
}

/* --- reading ---------------------------------------------------------------------- */

struct archive {
    const char *where;
    const uint8_t *bytes;
    size_t n;
    struct sl_err *err;
};

struct directory {
    size_t at, end; /* its first byte, the byte behind */
    unsigned n_entries;
};

static enum sl_code bad(const struct archive *a, const char *what)
{
    return sl_err_set(a->err, SL_E_INPUT, "%s: .npz: %s", a->where, what);
}

static enum sl_code too_large(const struct archive *a)
{
    return sl_err_set(a->err, SL_E_LIMIT, "%s: .npz in zip64 (below 4 GiB allowed)",
                      a->where);
}

/* The end record stands in the last bytes, before a comment whose length it knows. */
static enum sl_code find_directory(const struct archive *a, struct directory *ret)
{
    if (a->n < END_BYTES)
        return bad(a, "no zip archive, or cut");
    size_t at = a->n - END_BYTES, stop = at > COMMENT_MAX ? at - COMMENT_MAX : 0;
    while (memcmp(a->bytes + at, "PK\5\6", 4) != 0 ||
           get16(a->bytes + at + 20) != a->n - END_BYTES - at) {
        if (at == stop)
            return bad(a, "no zip archive, or cut");
        at--;
    }
    const uint8_t *end = a->bytes + at;
    if (get16(end + 4) != 0 || get16(end + 6) != 0 || get16(end + 8) != get16(end + 10))
        return bad(a, "archive in several parts");
    if (get16(end + 10) == UINT16_MAX || get32(end + 12) == UINT32_MAX ||
        get32(end + 16) == UINT32_MAX)
        return too_large(a);
    if (get32(end + 16) > at || get32(end + 12) != at - get32(end + 16))
        return bad(a, "directory does not end where the end record begins");
    *ret = (struct directory){get32(end + 16), at, get16(end + 10)};
    return SL_OK;
}

/* The entry's data, from its local header: name and extra field there have lengths of
 * their own. */
static enum sl_code find_data(const struct archive *a, const struct directory *d,
                              const uint8_t *row, struct sl_npz_entry *e)
{
    size_t at = get32(row + 42), name = get16(row + 28);
    if (d->at < LOCAL_BYTES || at > d->at - LOCAL_BYTES ||
        memcmp(a->bytes + at, "PK\3\4", 4) != 0)
        return bad(a, "directory names an entry that is not there");
    const uint8_t *local = a->bytes + at;
    size_t left = d->at - LOCAL_BYTES - at,
           skip = (size_t)get16(local + 26) + get16(local + 28);
    if (skip > left || e->packed > left - skip)
        return bad(a, "entry reaches into the directory");
    if (get16(local + 26) != name ||
        memcmp(local + LOCAL_BYTES, row + DIRECTORY_BYTES, name) != 0)
        return bad(a, "entry has another name in the directory");
    e->data = local + LOCAL_BYTES + skip;
    return SL_OK;
}

/* Names go into messages: one line, so no control characters. */
static bool is_printable(const char *name)
{
    for (const char *c = name; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return false;
    return true;
}

/* One row of the directory; its fixed part and variable fields are known to be there. */
static enum sl_code read_row(const struct archive *a, const struct directory *d,
                             const uint8_t *row, struct sl_npz_entry *ret)
{
    size_t name = (size_t)get16(row + 28) - SUFFIX_BYTES;
    if (name == 0 || name >= SL_NPZ_NAME ||
        memchr(row + DIRECTORY_BYTES, '\0', name) != NULL)
        return bad(a, "array's name is empty or longer than 127 bytes");
    struct sl_npz_entry e = {.crc = get32(row + 16)};
    memcpy(e.name, row + DIRECTORY_BYTES, name);
    if (!is_printable(e.name))
        return bad(a, "array's name is not printable");
    e.packed = get32(row + 20);
    e.size = get32(row + 24);
    if (e.packed == UINT32_MAX || e.size == UINT32_MAX || get32(row + 42) == UINT32_MAX)
        return too_large(a);
    uint16_t method = get16(row + 10);
    if ((get16(row + 8) & FLAG_ENCRYPTED) != 0)
        return bad(a, "encrypted entry");
    if (method != METHOD_STORED && method != METHOD_DEFLATED)
        return bad(a, "entry neither stored nor deflated");
    e.deflated = method == METHOD_DEFLATED;
    if (!e.deflated && e.packed != e.size)
        return bad(a, "stored entry of two sizes");
    if (e.deflated && e.size / DEFLATE_MOST > e.packed)
        return bad(a, "deflated entry announces more than it can hold");
    enum sl_code rc = find_data(a, d, row, &e);
    if (rc == SL_OK)
        *ret = e;
    return rc;
}

static bool is_array(const uint8_t *row)
{
    size_t n = get16(row + 28);
    return n >= SUFFIX_BYTES &&
           memcmp(row + DIRECTORY_BYTES + n - SUFFIX_BYTES, SUFFIX, SUFFIX_BYTES) == 0;
}

static enum sl_code read_directory(const struct archive *a, const struct directory *d,
                                   struct sl_npz *z)
{
    size_t at = d->at;
    for (unsigned i = 0; i < d->n_entries; i++) {
        const uint8_t *row = a->bytes + at;
        size_t left = d->end - at;
        if (left < DIRECTORY_BYTES || memcmp(row, "PK\1\2", 4) != 0)
            return bad(a, "directory cut or damaged");
        size_t size =
            DIRECTORY_BYTES + (size_t)get16(row + 28) + get16(row + 30) + get16(row + 32);
        if (size > left)
            return bad(a, "directory cut or damaged");
        at += size;
        if (!is_array(row))
            continue;
        struct sl_npz_entry *e = &z->entry[z->n_entries];
        enum sl_code rc = read_row(a, d, row, e);
        if (rc != SL_OK)
            return rc;
        if (sl_npz_find(z, e->name) != NULL)
            return bad(a, "two arrays of one name");
        z->n_entries++;
    }
    return at == d->end ? SL_OK : bad(a, "directory longer than its entries");
}

enum sl_code sl_npz_open(const char *where, const uint8_t *bytes, size_t n,
                         struct sl_npz *ret, struct sl_err *err)
{
    const struct archive a = {where, bytes, n, err};
    struct directory d = {0};
    enum sl_code rc = find_directory(&a, &d);
    if (rc != SL_OK)
        return rc;
    if (d.n_entries > SL_NPZ_ENTRIES_MAX)
        return sl_err_set(err, SL_E_LIMIT, "%s: .npz of %u entries (at most %u)", where,
                          d.n_entries, SL_NPZ_ENTRIES_MAX);
    if (d.n_entries > (d.end - d.at) / DIRECTORY_BYTES)
        return bad(&a, "directory cut or damaged");
    struct sl_npz z = {.where = where};
    z.entry = sl_calloc(d.n_entries + 1, sizeof(*z.entry));
    if (z.entry == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: .npz of %u entries", where, d.n_entries);
    rc = read_directory(&a, &d, &z);
    if (rc != SL_OK) {
        sl_npz_deinit(&z);
        return rc;
    }
    *ret = z;
    return SL_OK;
}

void sl_npz_deinit(struct sl_npz *z)
{
    if (z == NULL)
        return;
    free(z->entry);
    *z = (struct sl_npz){0};
}

const struct sl_npz_entry *sl_npz_find(const struct sl_npz *z, const char *name)
{
    for (size_t i = 0; i < z->n_entries; i++)
        if (strcmp(z->entry[i].name, name) == 0)
            return &z->entry[i];
    return NULL;
}

/* Exactly e->size bytes must come out of exactly e->packed. */
static bool inflate_entry(const struct sl_npz_entry *e, uint8_t *ret)
{
    z_stream s = {.next_in = (Bytef *)(uintptr_t)e->data,
                  .avail_in = (uInt)e->packed,
                  .next_out = ret,
                  .avail_out = (uInt)e->size};
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK)
        return false;
    int rc = inflate(&s, Z_FINISH);
    inflateEnd(&s);
    return rc == Z_STREAM_END && s.avail_in == 0 && s.avail_out == 0;
}

enum sl_code sl_npz_get(const struct sl_npz *z, const char *name, struct sl_npy *ret,
                        struct sl_err *err)
{
    const struct sl_npz_entry *e = sl_npz_find(z, name);
    if (e == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "%s: no array %s", z->where, name);
    const uint8_t *npy = e->data;
    uint8_t *owned = NULL;
    if (e->deflated) {
        owned = malloc(e->size + 1);
        if (owned == NULL)
            return sl_err_set(err, SL_E_NOMEM, "%s: array %s of %zu bytes", z->where,
                              name, e->size);
        npy = owned;
    }
    struct sl_npy a;
    enum sl_code rc;
    if (e->deflated && !inflate_entry(e, owned))
        rc = sl_err_set(err, SL_E_INPUT, "%s: array %s: damaged deflate data", z->where,
                        name);
    else if (crc32_z(0, npy, e->size) != e->crc)
        rc = sl_err_set(err, SL_E_INPUT, "%s: array %s: wrong checksum", z->where, name);
    else if ((rc = sl_npy_parse(name, npy, e->size, &a, err)) != SL_OK)
        sl_err_wrap(err, rc, "%s", z->where);
    if (rc != SL_OK) {
        free(owned);
        return rc;
    }
    a.owned = owned;
    *ret = a;
    return SL_OK;
}

/* --- writing ---------------------------------------------------------------------- */

static uint8_t *put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    return p + 2;
}

static uint8_t *put32(uint8_t *p, size_t v)
{
    return put16(put16(p, v & UINT16_MAX), v >> 16);
}

static uint8_t *put_name(uint8_t *p, const char *name)
{
    size_t n = strlen(name);
    memcpy(p, name, n);
    memcpy(p + n, SUFFIX, SUFFIX_BYTES);
    return p + n + SUFFIX_BYTES;
}

/* The fields that local header and directory share: version to extra length. */
static uint8_t *put_common(uint8_t *p, const struct sl_npz_item *item, uint32_t crc)
{
    size_t size = sl_npy_file_bytes(&item->array);
    p = put16(p, VERSION);
    p = put16(p, 0); /* flags */
    p = put16(p, METHOD_STORED);
    p = put16(p, 0); /* time */
    p = put16(p, DATE_1980_01_01);
    p = put32(p, crc);
    p = put32(p, size);
    p = put32(p, size);
    p = put16(p, strlen(item->name) + SUFFIX_BYTES);
    return put16(p, 0); /* extra */
}

static uint8_t *put_directory_row(uint8_t *p, const struct sl_npz_item *item,
                                  uint32_t crc, size_t offset)
{
    memcpy(p, "PK\1\2", 4);
    p = put16(p + 4, VERSION);
    p = put_common(p, item, crc);
    p = put16(p, 0); /* comment */
    p = put16(p, 0); /* part */
    p = put16(p, 0); /* attributes */
    p = put32(p, 0);
    p = put32(p, offset);
    return put_name(p, item->name);
}

static enum sl_code check_items(const struct sl_npz_item *items, size_t n,
                                size_t *ret_bytes, struct sl_err *err)
{
    if (n > SL_NPZ_ENTRIES_MAX)
        return sl_err_set(err, SL_E_LIMIT, ".npz of %zu arrays (at most %u)", n,
                          SL_NPZ_ENTRIES_MAX);
    size_t total = END_BYTES;
    for (size_t i = 0; i < n; i++) {
        size_t name = strlen(items[i].name);
        if (name == 0 || name >= SL_NPZ_NAME)
            return sl_err_set(err, SL_E_LIMIT, ".npz: name of array %zu (1 to %d bytes)",
                              i, SL_NPZ_NAME - 1);
        if (!is_printable(items[i].name))
            return sl_err_set(err, SL_E_INPUT, ".npz: name of array %zu is not printable", i);
        for (size_t k = 0; k < i; k++)
            if (strcmp(items[i].name, items[k].name) == 0)
                return sl_err_set(err, SL_E_INPUT, ".npz: two arrays %s", items[i].name);
        size_t more = DIRECTORY_BYTES + LOCAL_BYTES + 2 * (name + SUFFIX_BYTES);
        if (items[i].array.bytes > ARCHIVE_MAX ||
            (total += more + sl_npy_file_bytes(&items[i].array)) > ARCHIVE_MAX)
            return sl_err_set(err, SL_E_LIMIT, ".npz of 4 GiB or more");
    }
    *ret_bytes = total;
    return SL_OK;
}

enum sl_code sl_npz_encode(const struct sl_npz_item *items, size_t n_items, uint8_t **ret,
                           size_t *ret_n, struct sl_err *err)
{
    size_t total = 0;
    enum sl_code rc = check_items(items, n_items, &total, err);
    if (rc != SL_OK)
        return rc;
    uint8_t *out = malloc(total), *p = out;
    uint32_t *place =
        sl_calloc(2 * n_items + 1, sizeof(*place)); /* offset, crc of each */
    if (out == NULL || place == NULL) {
        free(out);
        free(place);
        return sl_err_set(err, SL_E_NOMEM, ".npz of %zu bytes", total);
    }
    for (size_t i = 0; i < n_items; i++) {
        size_t name = strlen(items[i].name) + SUFFIX_BYTES;
        size_t size = sl_npy_file_bytes(&items[i].array);
        uint8_t *data = p + LOCAL_BYTES + name;
        sl_npy_encode(&items[i].array, data);
        place[2 * i] = (uint32_t)(p - out);
        place[2 * i + 1] = (uint32_t)crc32_z(0, data, size);
        memcpy(p, "PK\3\4", 4);
        put_name(put_common(p + 4, &items[i], place[2 * i + 1]), items[i].name);
        p = data + size;
    }
    size_t directory = (size_t)(p - out);
    for (size_t i = 0; i < n_items; i++)
        p = put_directory_row(p, &items[i], place[2 * i + 1], place[2 * i]);
    size_t directory_bytes = (size_t)(p - out) - directory;
    free(place);
    memcpy(p, "PK\5\6\0\0\0", 8);
    p = put16(put16(p + 8, n_items), n_items);
    put16(put32(put32(p, directory_bytes), directory), 0);
    *ret = out;
    *ret_n = total;
    return SL_OK;
}
