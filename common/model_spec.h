/* SPDX-License-Identifier: Apache-2.0 */
/* model_spec.h - what a model is made of, as plain data: the list `model.layers` of a plan, of
 * the golden vectors, or of a named model. accel/nn/model.h builds one; this header computes
 * nothing. Vocabulary of tests/golden/nn. Owns: the array of layers. Thread: any. */
#ifndef SL_COMMON_MODEL_SPEC_H
#define SL_COMMON_MODEL_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_LAYER_NAME 48
#define SL_LAYERS_MAX 256

enum sl_layer_kind {
    SL_LAYER_DENSE,         /* out, bias; y = x w^T + b over the last dimension */
    SL_LAYER_CONV2D,        /* out, kernel, stride, pad, bias; [C,H,W] */
    SL_LAYER_MAXPOOL,       /* kernel, stride, pad */
    SL_LAYER_AVGPOOL,       /* kernel, stride; kernel 0 = global, result [C] (flattened) */
    SL_LAYER_RELU,
    SL_LAYER_GELU_ERF,
    SL_LAYER_GELU_TANH,
    SL_LAYER_FLATTEN,
    SL_LAYER_DROPOUT,       /* rate */
    SL_LAYER_LAYERNORM,     /* eps; over the last dimension */
    SL_LAYER_GROUPNORM,     /* groups, eps */
    SL_LAYER_BATCHNORM,     /* momentum, eps */
    SL_LAYER_MHSA,          /* heads, causal; [T,D] */
    SL_LAYER_MEAN_TOKENS,   /* [T,D] -> [D] */
    SL_LAYER_RESIDUAL,      /* y = shortcut(x) + body(x); the next `n_body` entries are the body, the
                               `n_shortcut` after them the shortcut (0 = identity) */
    SL_LAYER_TERNARY_DENSE,  /* as dense and conv2d; ternary values with learned scale and */
    SL_LAYER_TERNARY_CONV2D, /* offset on the unit "rtn", ordinary ones on others */
    SL_LAYER_SPHERE,         /* out, eps, scale; a fixed head on the unit sphere: y = scale w0 x /
                                |x|, rows of w0 orthonormal. Made by sl_model_spec_sphere, no word of
                                `model.layers` */
};

/* What a ternary layer's values are on the unit "rtn". */
enum sl_ternary_form {
    SL_TERNARY_LEARNED, /* ternary, with learned scale and offset */
    SL_TERNARY_PLAIN,   /* ternary; weights scaled by the mean magnitude of those that are
                           not 0 (Li, Zhang, Liu: Ternary Weight Networks, 2016) */
    SL_TERNARY_BINARY,  /* signs; weights scaled by their mean magnitude (Rastegari et al.:
                           XNOR-Net, 2016) */
};

struct sl_layer_spec {
    enum sl_layer_kind kind;
    char name[SL_LAYER_NAME]; /* of its tensors ("fc1"); "" where it has none */
    uint32_t out, kernel, stride, pad, groups, heads;
    bool bias, causal;
    float rate, eps, momentum, scale;
    uint32_t n_body, n_shortcut; /* counted with everything nested inside */
    enum sl_ternary_form form;
};

struct sl_model_spec {
    struct sl_layer_spec *layers; /* owned */
    size_t n_layers;
};

void sl_model_spec_deinit(struct sl_model_spec *m);
enum sl_code sl_model_spec_copy(const struct sl_model_spec *from, struct sl_model_spec *ret,
                                struct sl_err *err);
/* Appends a copy of *l. SL_E_LIMIT beyond SL_LAYERS_MAX. */
enum sl_code sl_model_spec_add(struct sl_model_spec *m, const struct sl_layer_spec *l,
                               struct sl_err *err);
/* A layer of this kind with the defaults of its kind (stride: conv 1, pools = kernel;
 * bias true; eps 1e-5; momentum 0.1). */
struct sl_layer_spec sl_layer_default(enum sl_layer_kind kind);
/* The kind's name in plans ("conv2d"); sl_layer_kind_of reads it, false if unknown. */
const char *sl_layer_kind_name(enum sl_layer_kind kind);
bool sl_layer_kind_of(const char *name, enum sl_layer_kind *ret);
/* The same model with its inner dense and conv2d layers ternary: all but the first and the
 * last of them, outside residuals. A ReLU in front of one, also before a pool, gives way to a
 * batch norm right before the layer: the input of a ternary layer needs both signs. Names of
 * layers that have one stay. A model that has ternary layers already is copied as it is.
 * SL_E_INPUT when there is no inner layer. */
enum sl_code sl_model_spec_ternary(const struct sl_model_spec *from, struct sl_model_spec *ret,
                                   struct sl_err *err);
/* The same model with `width` features in front of its last layer: what the dense layer before it
 * gives, if nothing but ReLU and dropout stand between them, else a new dense layer "features".
 * SL_E_INPUT when the last layer is not dense. */
enum sl_code sl_model_spec_width(const struct sl_model_spec *from, uint32_t width,
                                 struct sl_model_spec *ret, struct sl_err *err);
/* The same model with a head of kind SL_LAYER_SPHERE behind it, named "head". replace: in place of
 * its last layer, a dense one, unless no other has weights. */
enum sl_code sl_model_spec_sphere(const struct sl_model_spec *from, uint32_t n_classes, float scale,
                                  bool replace, struct sl_model_spec *ret, struct sl_err *err);
/* The spec of a named model (tiny mlp lenet cnn pfl-cnn resnet8) for n_classes classes;
 * SL_E_NOTFOUND naming the known ones. Tensor names conv1, fc1, ... as DESIGN section 6. */
enum sl_code sl_model_spec_named(const char *name, uint32_t n_classes,
                                 struct sl_model_spec *ret, struct sl_err *err);

#endif
