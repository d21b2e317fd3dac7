/* SPDX-License-Identifier: Apache-2.0 */
/* matmul.h - matrix units: what multiplies matrices and convolves, exactly or as an
 * emulated accelerator. A unit is a const ops table chosen by name. Layers say what an
 * operand is (role) and why it is multiplied (pass); a unit may quantise by that. A
 * convolution is an operation of the unit, so that one which quantises can do so once per
 * tensor and gather narrow values; the fp32 unit goes image by image through columns that
 * stay in the cache. A unit counts what it did in the ledger of the context it is called
 * with. Thread: the tables are constant; a context belongs to one thread at a time. */
#ifndef SL_ACCEL_UNITS_MATMUL_H
#define SL_ACCEL_UNITS_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/rng.h"

struct sl_kernels;

enum sl_role { SL_ROLE_WEIGHT, SL_ROLE_ACTIVATION, SL_ROLE_GRADIENT };
enum sl_pass { SL_PASS_FORWARD, SL_PASS_INPUT_GRADIENT, SL_PASS_WEIGHT_GRADIENT };
#define SL_ROLES 3
#define SL_PASSES 3

/* A row-major matrix as it lies in memory: rows `ld` values apart. Transposed: the
 * product uses its transpose. */
struct sl_operand {
    const float *data;
    size_t ld;
    bool transposed;
    enum sl_role role;
};

/* c[m, n] = alpha * op(a)[m, k] op(b)[k, n], plus the old c with `accumulate`. c does not
 * overlap a or b. m, n, k >= 1. */
struct sl_matmul {
    enum sl_pass pass;
    size_t m, n, k;
    struct sl_operand a, b;
    float alpha;
    bool accumulate;
    float *c;
    size_t ldc;
};

/* x [n, in_c, in_h, in_w], w [out_c, in_c, kernel, kernel], y [n, out_c, out_h, out_w];
 * zero padding on all sides; out_h = (in_h + 2 pad - kernel) / stride + 1. */
struct sl_conv_geometry {
    uint32_t in_c, in_h, in_w;
    uint32_t out_c, out_h, out_w;
    uint32_t kernel, stride, pad;
};

/* What a unit did, by pass. macs: multiply-accumulates of the products asked for; work:
 * what the unit's hardware does for them in its own measure (passes of "fast", term pairs
 * of "tr", words of "rtn"); cycles of its array; conversions: values converted; bits
 * moved to and from the array; infinities: values replaced by the largest number. */
struct sl_unit_ledger {
    uint64_t calls[SL_PASSES];
    uint64_t macs[SL_PASSES];
    uint64_t work[SL_PASSES];
    uint64_t cycles[SL_PASSES];
    uint64_t conversions[SL_PASSES];
    uint64_t bits[SL_PASSES];
    uint64_t infinities;
    uint64_t ternary_macs; /* of `macs`, those by bit planes */
    /* Adaptive width of "fast", by role: how often one was asked for, and was 4 bits. */
    uint64_t widths[SL_ROLES], wide[SL_ROLES];
};

struct sl_matmul_unit;
struct sl_tr_options;
struct sl_fast_options;
struct sl_rtn_options;

/* Options of units; NULL = the unit's defaults. Borrowed. */
struct sl_unit_options {
    const struct sl_tr_options *tr;
    const struct sl_fast_options *fast;
    const struct sl_rtn_options *rtn; /* cost model */
};

/* Where in the model and in the run a unit works, for units whose precision or noise
 * follows that. Zero: a model of one layer, at the start of a run. */
struct sl_unit_place {
    uint32_t layer, n_layers;         /* 1..n_layers: layers with products, in order */
    uint64_t iteration, n_iterations; /* progress of the run: 0..n_iterations - 1;
                                         n_iterations: evaluation */
    uint32_t part;                    /* of a batch that is processed in parts, from 0 */
    uint32_t
        calls[SL_PASSES]; /* products of the layer so far, by pass; the unit counts */
};

struct sl_unit_ctx {
    const struct sl_matmul_unit *unit;
    const struct sl_kernels *kernels;
    struct sl_unit_ledger ledger;
    struct sl_rng_id draw; /* stream of the step, for units that round stochastically; its
                              `tensor` is set by the layer */
    void *scratch; /* the unit's, at least the largest scratch_bytes() of the model */
    struct sl_unit_options options;
    /* What a unit prepares from the weights of a layer stays in `keep` (zeroed at first,
     * the layer's keep_bytes(); NULL = none) and holds while `version` is the same:
     * whoever changes weights adds 1. */
    void *keep;
    uint64_t version;
    struct sl_unit_place place;
    uint64_t noise; /* position of a noise source that never starts anew within a run */
};

/* Memory of a unit for a layer. */
struct sl_unit_bytes {
    size_t scratch; /* within a call; enough for each call of the layer */
    size_t keep;    /* from call to call */
};

struct sl_matmul_unit {
    const char *name;
    bool ternary; /* ternary layers multiply bit planes */
    /* Raises *ret to what a product [m, k] x [k, n] and its two gradients need under
     * options o; keep: its b is weights that stay, the layer's only ones. NULL = nothing.
     */
    void (*matmul_bytes)(const struct sl_unit_options *o, size_t m, size_t n, size_t k,
                         bool keep, struct sl_unit_bytes *ret);
    /* The same for a convolution of up to n images. */
    void (*conv_bytes)(const struct sl_unit_options *o, const struct sl_conv_geometry *g,
                       size_t n, struct sl_unit_bytes *ret);
    void (*matmul)(struct sl_unit_ctx *ctx, const struct sl_matmul *op);
    /* y = x * w (cross-correlation), no bias. */
    void (*conv_forward)(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                         size_t n, const float *x, const float *w, float *y);
    /* dx from dy. */
    void (*conv_backward_data)(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                               size_t n, const float *dy, const float *w, float *dx);
    /* dw (plus the old dw with accumulate) from x and dy. */
    void (*conv_backward_weights)(struct sl_unit_ctx *ctx,
                                  const struct sl_conv_geometry *g, size_t n,
                                  const float *x, const float *dy, bool accumulate,
                                  float *dw);
};

extern const struct sl_matmul_unit sl_matmul_fp32, sl_matmul_fast, sl_matmul_tr,
    sl_matmul_rtn;

/* The unit of this name ("fp32", "fast", "tr", "rtn"), or NULL. */
const struct sl_matmul_unit *sl_matmul_unit_find(const char *name);
/* Units by number from 0; NULL beyond the last. */
const struct sl_matmul_unit *sl_matmul_unit_at(size_t i);

/* Does op on ctx's unit. */
void sl_matmul(struct sl_unit_ctx *ctx, const struct sl_matmul *op);

#endif
