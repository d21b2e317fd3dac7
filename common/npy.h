/* SPDX-License-Identifier: Apache-2.0 */
/* npy.h - arrays in NumPy's .npy format, read from and written to memory.
 *
 *   6 bytes  93 "NUMPY"
 *   2 bytes  version: 1 0 or 2 0
 *   2 bytes  (version 2: 4 bytes) header length h, little-endian
 *   h bytes  {'descr': '<f4', 'fortran_order': False, 'shape': (4, 257), } spaces,
 * newline the values, row-major, little-endian
 *
 * Values of an array stand on no particular boundary: read them with the functions below
 * or with memcpy. Thread: any. */
#ifndef SL_COMMON_NPY_H
#define SL_COMMON_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_NPY_DIMS 8

/* name, NumPy's descr, bytes of a value */
#define SL_NPY_DTYPES(X)                                                                 \
    X(SL_NPY_F4, "<f4", 4)                                                               \
    X(SL_NPY_F8, "<f8", 8)                                                               \
    X(SL_NPY_I1, "|i1", 1)                                                               \
    X(SL_NPY_I2, "<i2", 2)                                                               \
    X(SL_NPY_I4, "<i4", 4)                                                               \
    X(SL_NPY_I8, "<i8", 8)                                                               \
    X(SL_NPY_U1, "|u1", 1)                                                               \
    X(SL_NPY_U2, "<u2", 2)                                                               \
    X(SL_NPY_U4, "<u4", 4)                                                               \
    X(SL_NPY_U8, "<u8", 8)

enum sl_npy_dtype {
#define SL_NPY_ENUM(name, descr, bytes) name,
    SL_NPY_DTYPES(SL_NPY_ENUM)
#undef SL_NPY_ENUM
};

/* An array: shape and a pointer to its values. {0} is valid to deinit. */
struct sl_npy {
    enum sl_npy_dtype dtype;
    unsigned n_dims;         /* 0 = scalar: one value */
    size_t dim[SL_NPY_DIMS]; /* outermost first; 0 allowed */
    size_t n;                /* values: the product of dim */
    size_t bytes;            /* n times the size of a value */
    const uint8_t *data;     /* the values; borrowed unless `owned` is set */
    uint8_t *owned;          /* block that holds data, or NULL */
};

void sl_npy_deinit(struct sl_npy *a); /* frees `owned`; NULL and {0} allowed */

/* "<f4", "|u1", ...; never NULL. */
const char *sl_npy_descr(enum sl_npy_dtype dtype);
size_t sl_npy_value_bytes(enum sl_npy_dtype dtype);

/* An array over borrowed values. dim may be NULL when n_dims is 0, data when there are
 * none. SL_E_LIMIT for more than SL_NPY_DIMS dimensions or more bytes than a size_t
 * counts. */
enum sl_code sl_npy_make(enum sl_npy_dtype dtype, unsigned n_dims, const size_t *dim,
                         const void *data, struct sl_npy *ret, struct sl_err *err);

/* Reads a whole .npy; ret borrows `bytes`. `where` names it in messages. SL_E_INPUT for
 * what is damaged or cut, big-endian, in Fortran order, of another dtype, or followed by
 * more bytes; SL_E_LIMIT for too many dimensions. */
enum sl_code sl_npy_parse(const char *where, const uint8_t *bytes, size_t n,
                          struct sl_npy *ret, struct sl_err *err);

/* Bytes of the .npy (version 1) that holds a: header, then values. The header's length is
 * a multiple of 64. */
size_t sl_npy_file_bytes(const struct sl_npy *a);
/* Writes these bytes to ret[sl_npy_file_bytes(a)]. */
void sl_npy_encode(const struct sl_npy *a, uint8_t *ret);

/* All values as floats, ret[a->n]: F4 as they are, others rounded to nearest. */
void sl_npy_floats(const struct sl_npy *a, float *ret);
/* All values as doubles, ret[a->n]; I8 and U8 rounded to nearest. */
void sl_npy_doubles(const struct sl_npy *a, double *ret);
/* All values as integers, ret[a->n]. SL_E_INPUT when the array is of floats, SL_E_RANGE
 * for a U8 value above INT64_MAX; ret is then undefined. */
enum sl_code sl_npy_integers(const char *where, const struct sl_npy *a, int64_t *ret,
                             struct sl_err *err);

#endif
