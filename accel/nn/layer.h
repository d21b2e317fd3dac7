/* SPDX-License-Identifier: Apache-2.0 */
/* layer.h - what a layer is inside the engine; for accel/nn only.
 * A layer kind is one const ops table: build (shapes, tensors), forward, backward. Layers
 * of a model stand in one array in the order of its spec; a residual layer is followed by
 * its body and its shortcut. Activations are [n, shape of a sample], row-major. */
#ifndef SL_ACCEL_NN_LAYER_H
#define SL_ACCEL_NN_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/kernels/kernels.h"
#include "accel/nn/model.h"
#include "accel/units/matmul.h"
#include "common/rng.h"

#define SL_LAYER_TENSORS 8
#define SL_LAYER_DEPTH 8 /* residuals inside residuals */
#define SL_NO_LAYER SIZE_MAX

struct sl_layer_ops;
struct sl_net;

struct sl_layer {
    const struct sl_layer_ops *ops;
    struct sl_layer_spec spec;
    struct sl_shape in, out;
    size_t in_size, out_size; /* values of a sample */
    size_t
        at[SL_LAYER_TENSORS]; /* offsets of its tensors in the values, in build order */
    unsigned n_tensors;
    size_t number;          /* place in the model's array */
    size_t previous;        /* the layer whose output is this one's input; SL_NO_LAYER:
                               the input of its sequence */
    unsigned depth;         /* 0 outside residuals */
    bool in_place;          /* y is x, overwritten */
    bool has_params_before; /* a trained layer stands before it in the array */
};

enum sl_tensor_init {
    SL_TENSOR_UNIFORM_WEIGHT, /* +-gain / sqrt(fan_in) */
    SL_TENSOR_UNIFORM_BIAS,   /* +-1 / sqrt(fan_in) */
    SL_TENSOR_ONES,
    SL_TENSOR_ZEROS,
    SL_TENSOR_TERNARY_SCALE, /* start of gamma_w (units/rtn.h) for the tensor before it,
                                weights [out, ...] */
    SL_TENSOR_ORTHONORMAL, /* rows of length 1, at right angles to one another */
};

/* A tensor as a layer asks for it. */
struct sl_tensor_decl {
    char name[SL_TENSOR_NAME];
    enum sl_tensor_role role;
    unsigned n_dims;
    uint32_t dim[SL_TENSOR_DIMS];
    enum sl_tensor_init init;
    size_t fan_in;
    bool no_decay; /* weight decay leaves it alone */
    size_t layer;
    unsigned slot; /* of layer.at */
};

struct sl_model_builder {
    struct sl_layer *layers;
    size_t n_layers;
    struct sl_tensor_decl *decls; /* grows */
    size_t n_decls;
};

/* One pass of a batch (or part of one) through the layers. */
struct sl_pass_ctx {
    struct sl_net *net;
    const struct sl_kernels *k;
    struct sl_unit_ctx *unit;
    const float *values;
    float *stats; /* the values again, to update running statistics; NULL = leave them */
    float *grads; /* backward: [n_params] */
    bool accumulate;       /* backward: add to grads, else overwrite */
    bool train;            /* dropout on, batch statistics */
    size_t n;              /* samples of this part */
    size_t first;          /* place of the part's first sample in the whole batch */
    struct sl_rng_id draw; /* seed, client, round and step of random layers */
    void *scratch;         /* the largest scratch_bytes of the model */
};

struct sl_layer_ops {
    enum sl_layer_kind kind;
    const char *prefix; /* of a tensor name that the spec leaves out; NULL = no tensors */
    bool view;          /* y is x under another shape; no forward, no backward */
    bool in_place;      /* forward may overwrite its input */
    bool grad_in_place; /* backward may be called with dx = dy */
    bool reads_y;       /* backward reads y: the next layer may not overwrite it */
    /* Checks spec and l->in, sets l->out, declares tensors. */
    enum sl_code (*build)(struct sl_model_builder *b, struct sl_layer *l,
                          struct sl_err *err);
    /* Bytes kept from forward to backward, and bytes needed within a call, for n samples.
     * NULL = none. */
    size_t (*aux_bytes)(const struct sl_layer *l, size_t n);
    size_t (*scratch_bytes)(const struct sl_layer *l, size_t n);
    /* Raises *ret to what unit u with options o needs for the products of n samples. NULL
     * = the layer has no products. */
    void (*unit_bytes)(const struct sl_layer *l, size_t n, const struct sl_matmul_unit *u,
                       const struct sl_unit_options *o, struct sl_unit_bytes *ret);
    void (*forward)(const struct sl_layer *l, const struct sl_pass_ctx *c, const float *x,
                    float *y, void *aux);
    /* dx = NULL: not wanted. dy may be overwritten. */
    void (*backward)(const struct sl_layer *l, const struct sl_pass_ctx *c,
                     const float *x, const float *y, float *dy, float *dx, void *aux);
};

extern const struct sl_layer_ops sl_layer_dense, sl_layer_conv2d, sl_layer_maxpool,
    sl_layer_avgpool, sl_layer_relu, sl_layer_gelu_erf, sl_layer_gelu_tanh,
    sl_layer_flatten, sl_layer_dropout, sl_layer_layernorm, sl_layer_groupnorm,
    sl_layer_batchnorm, sl_layer_mhsa, sl_layer_mean_tokens, sl_layer_residual,
    sl_layer_ternary_dense, sl_layer_ternary_conv2d, sl_layer_sphere;

/* The ops of a kind, or NULL. */
const struct sl_layer_ops *sl_layer_ops_of(enum sl_layer_kind kind);

size_t sl_shape_size(const struct sl_shape *s);
bool sl_shape_equal(const struct sl_shape *a, const struct sl_shape *b);
/* "[3, 28, 28]" */
#define SL_SHAPE_TEXT 40
const char *sl_shape_text(const struct sl_shape *s, char ret[SL_SHAPE_TEXT]);

/* Layers a layer stands for: itself and, for a residual, body and shortcut. */
size_t sl_layer_span(const struct sl_layer_spec *s);

/* SL_E_INPUT "layer 3 (conv2d): ..." */
enum sl_code sl_layer_error(const struct sl_layer *l, struct sl_err *err, const char *fmt,
                            ...) __attribute__((format(printf, 3, 4)));

/* Declares "<name>.<suffix>" as the layer's next tensor. */
enum sl_code sl_layer_declare(struct sl_model_builder *b, struct sl_layer *l,
                              const char *suffix, enum sl_tensor_role role,
                              unsigned n_dims, const uint32_t *dim,
                              enum sl_tensor_init init, size_t fan_in,
                              struct sl_err *err);
/* Weight [out, in] and, with `bias`, bias [out]; suffixes "<part>weight", "<part>bias".
 */
enum sl_code sl_layer_declare_dense(struct sl_model_builder *b, struct sl_layer *l,
                                    const char *part, uint32_t out, uint32_t in,
                                    bool bias, struct sl_err *err);
/* weight [size] of ones, bias [size] of zeros: the affine part of a norm. */
enum sl_code sl_layer_declare_affine(struct sl_model_builder *b, struct sl_layer *l,
                                     uint32_t size, struct sl_err *err);

static inline const float *sl_layer_value(const struct sl_layer *l,
                                          const struct sl_pass_ctx *c, unsigned slot)
{
    return c->values + l->at[slot];
}

static inline float *sl_layer_grad(const struct sl_layer *l, const struct sl_pass_ctx *c,
                                   unsigned slot)
{
    return c->grads + l->at[slot];
}

/* y[rows, out] = x[rows, in] w^T (+ b); b may be NULL. */
void sl_dense_forward(const struct sl_pass_ctx *c, size_t rows, size_t in, size_t out,
                      const float *x, const float *w, const float *b, float *y);
/* dw, db (accumulate as c says; db may be NULL) and dx (+= with add_dx; NULL = not
 * wanted). */
void sl_dense_backward(const struct sl_pass_ctx *c, size_t rows, size_t in, size_t out,
                       const float *x, const float *w, const float *dy, float *dw,
                       float *db, bool add_dx, float *dx);

/* Raises *ret to what u needs for y[m, n] = x[m, k] w^T and its gradients. */
void sl_unit_matmul_bytes(const struct sl_matmul_unit *u, const struct sl_unit_options *o,
                          size_t m, size_t n, size_t k, bool keep,
                          struct sl_unit_bytes *ret);

struct sl_model {
    struct sl_layer *layers;
    size_t n_layers;
    struct sl_shape input, output;
    size_t input_size, output_size;
    uint32_t n_classes;
    enum sl_loss loss;
    struct sl_layout layout;
    struct {
        enum sl_tensor_init init;
        size_t fan_in;
        bool no_decay;
    } * start; /* by tensor of the layout */
    size_t n_params;
    bool needs_whole_batch; /* batch statistics */
};

/* sl_model_new without the check of the output, for single layers; n_classes = output
 * size. */
enum sl_code sl_model_build(const struct sl_model_spec *spec,
                            const struct sl_shape *input, struct sl_model **ret,
                            struct sl_err *err);

#endif
