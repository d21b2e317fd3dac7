/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.h - named tensors of floats in the safetensors format, read from and
 * written to memory.
 *
 *   8 bytes  header length h, little-endian
 *   h bytes  JSON {"NAME": {"dtype": "F32", "shape": [10, 784], "data_offsets": [0,
 * 31360]}, ...,
 *            "__metadata__": {"key": "text"}}; spaces may follow
 *   the tensors, row-major, little-endian; offsets count from here
 *
 * The tensors lie one behind the other: no gap, no overlap, nothing behind the last.
 * Values stand on no particular boundary. Thread: any; an open file is constant. */
#ifndef SL_COMMON_SAFETENSORS_H
#define SL_COMMON_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_SAFETENSORS_HEADER_MAX ((size_t)16 << 20)
#define SL_SAFETENSORS_NAME 128 /* bytes of a tensor's name with the closing zero */
#define SL_SAFETENSORS_DIMS 8
#define SL_SAFETENSORS_TENSORS_MAX 4096u

enum sl_safetensor_dtype { SL_ST_F32, SL_ST_F16, SL_ST_BF16, SL_ST_F64 };

struct sl_safetensor {
    char name[SL_SAFETENSORS_NAME];
    enum sl_safetensor_dtype dtype;
    unsigned n_dims;                 /* 0 = scalar */
    size_t dim[SL_SAFETENSORS_DIMS]; /* outermost first; 0 allowed */
    size_t n, bytes;                 /* values, and their size in the file */
    const uint8_t *data;             /* borrowed */
};

/* One text of "__metadata__". */
struct sl_safetensors_note {
    const char *key, *text;
};

struct sl_safetensors {
    struct sl_safetensor *tensors; /* [n_tensors], in the order of their offsets; owned */
    size_t n_tensors;
    struct sl_safetensors_note *notes; /* [n_notes]; owned, keys and texts too */
    size_t n_notes;
};

/* Reads the header of a whole file bytes[0..n-1] and places every tensor; ret borrows
 * `bytes`. `where` names the file in messages. SL_E_INPUT for what is damaged, cut, given
 * twice or of another dtype; SL_E_LIMIT, SL_E_NOMEM. */
enum sl_code sl_safetensors_open(const char *where, const uint8_t *bytes, size_t n,
                                 struct sl_safetensors *ret, struct sl_err *err);
void sl_safetensors_deinit(struct sl_safetensors *s); /* NULL and {0} allowed */

/* NULL when there is none of that name. */
const struct sl_safetensor *sl_safetensors_find(const struct sl_safetensors *s,
                                                const char *name);

/* The text of a key of the metadata; NULL when there is none. */
const char *sl_safetensors_note(const struct sl_safetensors *s, const char *key);

/* All values as floats, ret[t->n]: F32, F16 and BF16 exactly, F64 rounded to nearest. */
void sl_safetensors_floats(const struct sl_safetensor *t, float *ret);

/* What a file is written from; all borrowed. */
struct sl_safetensors_item {
    const char *name;
    unsigned n_dims;
    size_t dim[SL_SAFETENSORS_DIMS];
    const float *values; /* [product of dim] */
};

/* The file of n_items tensors as F32, in their order; equal tensors give equal bytes.
 * *ret is the caller's to free(). SL_E_LIMIT, SL_E_INPUT for a name that is empty, too
 * long, used twice, reserved ("__metadata__") or not UTF-8, SL_E_NOMEM. */
enum sl_code sl_safetensors_encode(const struct sl_safetensors_item *items,
                                   size_t n_items, uint8_t **ret, size_t *ret_n,
                                   struct sl_err *err);

/* The same with metadata: n_notes keys (distinct) and texts, in UTF-8. */
enum sl_code sl_safetensors_encode_noted(const struct sl_safetensors_item *items,
                                         size_t n_items,
                                         const struct sl_safetensors_note *notes,
                                         size_t n_notes, uint8_t **ret, size_t *ret_n,
                                         struct sl_err *err);

#endif
