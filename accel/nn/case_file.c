/* SPDX-License-Identifier: Apache-2.0 */
/* case_file.c - an .npz of stored (not compressed) entries, read from its local headers:
 *   0  "PK\3\4"   6 flags   8 method (0)   18 compressed size   26 name length   28 extra length
 *   30 name, extra, then the .npy: "\x93NUMPY", version 1.0, header length, header, values.
 * The header of an array must read as NumPy writes it for the type and shape asked for. */
#include "accel/nn/case_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define LOCAL_BYTES 30
#define NPY_BYTES 10

static size_t le16(const uint8_t *p)
{
    return p[0] | (size_t)p[1] << 8;
}

static size_t le32(const uint8_t *p)
{
    return le16(p) | le16(p + 2) << 16;
}

enum sl_code sl_case_file_open(const char *dir, const char *name, struct sl_case_file *ret,
                               struct sl_err *err)
{
    char path[1024];
    int len = snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (len < 0 || (size_t)len >= sizeof(path))
        return sl_err_set(err, SL_E_LIMIT, "path of %s longer than %zu", name, sizeof(path));
    FILE *in = fopen(path, "rb");
    if (in == NULL)
        return sl_err_errno(err, errno, "%s", path);
    struct sl_case_file f = {0};
    enum sl_code rc = SL_OK;
    long size = fseek(in, 0, SEEK_END) == 0 ? ftell(in) : -1;
    if (size < 0 || fseek(in, 0, SEEK_SET) != 0)
        rc = sl_err_errno(err, errno, "%s", path);
    else if ((size_t)size > SL_CASE_FILE_MAX)
        rc = sl_err_set(err, SL_E_LIMIT, "%s: %ld bytes (at most %zu)", path, size,
                        SL_CASE_FILE_MAX);
    else if ((f.bytes = sl_calloc((size_t)size, 1)) == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "%s", path);
    else if ((f.n = fread(f.bytes, 1, (size_t)size, in)) != (size_t)size)
        rc = sl_err_set(err, SL_E_IO, "%s: short read", path);
    fclose(in);
    if (rc != SL_OK)
        sl_case_file_close(&f);
    else
        *ret = f;
    return rc;
}

void sl_case_file_close(struct sl_case_file *f)
{
    free(f->bytes);
    *f = (struct sl_case_file){0};
}

/* The entry "name.npy"; false when it is not there or the file ends before it. */
static bool find_entry(const struct sl_case_file *f, const char *name, const uint8_t **ret,
                       size_t *ret_n)
{
    size_t at = 0, len = strlen(name);
    while (f->n - at > LOCAL_BYTES && memcmp(f->bytes + at, "PK\3\4", 4) == 0) {
        const uint8_t *h = f->bytes + at;
        size_t name_n = le16(h + 26), data = LOCAL_BYTES + name_n + le16(h + 28);
        size_t size = le32(h + 18);
        if (data > f->n - at || size > f->n - at - data || le16(h + 8) != 0 || le16(h + 6) & 8)
            return false;
        if (name_n == len + 4 && memcmp(h + LOCAL_BYTES, name, len) == 0 &&
            memcmp(h + LOCAL_BYTES + len, ".npy", 4) == 0) {
            *ret = h + data;
            *ret_n = size;
            return true;
        }
        at += data + size;
    }
    return false;
}

static void write_header(char dtype, const size_t *dim, unsigned n_dims, char *ret, size_t room)
{
    const char *descr = dtype == 'f' ? "<f4" : dtype == 'd' ? "<f8" : "<i4";
    size_t at = (size_t)snprintf(ret, room, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                                 descr);
    for (unsigned d = 0; d < n_dims; d++)
        at += (size_t)snprintf(ret + at, room - at, d > 0 ? ", %zu" : "%zu", dim[d]);
    snprintf(ret + at, room - at, n_dims == 1 ? ",), }" : "), }");
}

enum sl_code sl_case_file_read(const struct sl_case_file *f, const char *name, char dtype,
                               const size_t *dim, unsigned n_dims, void **ret_data,
                               struct sl_err *err)
{
    const uint8_t *npy;
    size_t size, want = dtype == 'd' ? 8 : 4;
    char header[256];
    if (!find_entry(f, name, &npy, &size))
        return sl_err_set(err, SL_E_NOTFOUND, "array %s: not in the file, or the file is cut",
                          name);
    for (unsigned d = 0; d < n_dims; d++)
        if (!sl_size_mul(want, dim[d], &want))
            return sl_err_set(err, SL_E_INPUT, "array %s: too large", name);
    write_header(dtype, dim, n_dims, header, sizeof(header));
    size_t len = strlen(header);
    if (size < NPY_BYTES || memcmp(npy, "\x93NUMPY\x01\x00", 8) != 0 ||
        le16(npy + 8) > size - NPY_BYTES || le16(npy + 8) < len ||
        memcmp(npy + NPY_BYTES, header, len) != 0)
        return sl_err_set(err, SL_E_INPUT, "array %s: header is not %s", name, header);
    size_t start = NPY_BYTES + le16(npy + 8);
    if (size - start != want)
        return sl_err_set(err, SL_E_INPUT, "array %s: %zu bytes of values, expected %zu", name,
                          size - start, want);
    void *data = sl_calloc(want, 1);
    if (data == NULL)
        return sl_err_set(err, SL_E_NOMEM, "array %s", name);
    memcpy(data, npy + start, want);
    *ret_data = data;
    return SL_OK;
}
