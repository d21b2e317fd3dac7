/* SPDX-License-Identifier: Apache-2.0 */
/* tensor.h - tensors as data: a layout (names, shapes, offsets) and one flat vector of fp32.
 * A model's parameters, buffers and fixed heads live in one vector of layout.n_values floats,
 * tensor after tensor in the layout's order, each row-major. Everything that moves between
 * processes (model, update, checkpoint) is such a vector. Names and shapes are PyTorch's
 * ("fc1.weight" is [out, in]). Thread: any; a layout is constant once built. */
#ifndef SL_COMMON_TENSOR_H
#define SL_COMMON_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/hash.h"

#define SL_TENSOR_DIMS 4
#define SL_TENSOR_NAME 64     /* bytes with the closing zero */
#define SL_TENSORS_MAX 1024   /* tensors of a model */
#define SL_VALUES_MAX ((size_t)1 << 28) /* values of a model */

enum sl_tensor_role {
    SL_TENSOR_PARAM,  /* trained */
    SL_TENSOR_BUFFER, /* follows the data (running statistics), averaged like a parameter */
    SL_TENSOR_FIXED,  /* same at all clients, never in round traffic (sphere head) */
};

struct sl_tensor {
    char name[SL_TENSOR_NAME];
    enum sl_tensor_role role;
    unsigned n_dims;              /* 0 = scalar */
    uint32_t dim[SL_TENSOR_DIMS]; /* outermost first, each >= 1 */
    size_t offset, size;          /* in values, in the flat vector */
};

struct sl_layout {
    struct sl_tensor *tensors; /* owned */
    size_t n_tensors;
    size_t n_values; /* sum of all sizes */
};

void sl_layout_deinit(struct sl_layout *l);

/* Appends a tensor behind the last. SL_E_LIMIT for too many tensors or values, SL_E_INPUT for a
 * name that is empty, too long, used already or not printable ASCII, or a zero dimension. */
enum sl_code sl_layout_add(struct sl_layout *l, const char *name, enum sl_tensor_role role,
                           unsigned n_dims, const uint32_t *dim, struct sl_err *err);

/* Values that travel in every round: all but fixed heads, which stand last; the first so many of the
 * vector. */
size_t sl_layout_travelling(const struct sl_layout *l);

/* NULL when there is none of that name. */
const struct sl_tensor *sl_layout_find(const struct sl_layout *l, const char *name);

/* Same names, roles and shapes in the same order; else SL_E_INPUT naming the first difference. */
enum sl_code sl_layout_match(const struct sl_layout *want, const struct sl_layout *got,
                             struct sl_err *err);

enum sl_code sl_layout_copy(const struct sl_layout *from, struct sl_layout *ret,
                            struct sl_err *err);

/* BLAKE2b-256 over the values of all tensors, sorted by name as bytes, little-endian fp32. */
void sl_model_digest(const struct sl_layout *l, const float *values,
                     uint8_t ret[SL_DIGEST_BYTES]);

#endif
