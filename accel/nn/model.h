/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - a model: layers with their shapes, the layout of its values, the loss.
 * Built from a spec, an input shape and a number of classes; constant from then on, so
 * any number of threads may train it at once, each with its own trainer (nn/train.h).
 * Values are not here: they are one flat vector of sl_model_layout(m)->n_values floats,
 * parameters first, then running statistics (buffers), a fixed head last. */
#ifndef SL_ACCEL_NN_MODEL_H
#define SL_ACCEL_NN_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/model_spec.h"
#include "common/tensor.h"

#define SL_SHAPE_DIMS 3
#define SL_ACTIVATION_MAX ((size_t)1 << 26) /* values of one sample's activation */

/* Shape of one sample, outermost first: [C,H,W], [T,D] or [D]. */
struct sl_shape {
    unsigned n_dims; /* 1..3 */
    uint32_t dim[SL_SHAPE_DIMS];
};

enum sl_loss {
    SL_LOSS_SOFTMAX_CE, /* mean over the batch of logsumexp(x) - x[label] */
    SL_LOSS_SQUARED,    /* mean over the batch of sum over classes of (x - onehot)^2 */
};

struct sl_model;

/* Shape inference and layout. A dense, mhsa, norm or conv2d layer without a name is
 * called fcN, attnN, normN, convN, counted by kind from 1. Errors (SL_E_INPUT,
 * SL_E_LIMIT, SL_E_NOMEM) name the layer's number and kind, what was found and what is
 * allowed. The last layer must give [n_classes]. *spec and *input are copied. */
enum sl_code sl_model_new(const struct sl_model_spec *spec, const struct sl_shape *input,
                          uint32_t n_classes, enum sl_loss loss, struct sl_model **ret,
                          struct sl_err *err);
void sl_model_free(struct sl_model *m); /* NULL allowed */

/* Borrowed from the model. Tensors of role PARAM stand first. */
const struct sl_layout *sl_model_layout(const struct sl_model *m);
/* Values that are trained: the first so many of the vector. */
size_t sl_model_n_params(const struct sl_model *m);
/* Values that travel each round: parameters and buffers. */
size_t sl_model_n_travelling(const struct sl_model *m);

/* The last layer, which turns features into outputs. */
struct sl_head_info {
    bool fixed;            /* on the unit sphere, never trained; else a dense layer */
    size_t width, classes; /* features in, outputs */
    size_t weight;         /* offset of [classes, width] in the values */
    size_t bias;           /* offset of [classes]; SIZE_MAX = none */
    size_t layer;          /* number of its layer */
    float scale;           /* the outputs' factor */
};
/* false: the model ends in another kind of layer, or one over tokens. */
bool sl_model_head(const struct sl_model *m, struct sl_head_info *ret);
uint32_t sl_model_n_classes(const struct sl_model *m);
const struct sl_shape *sl_model_input(const struct sl_model *m);

/* Start values: weights and biases uniform in +-1/sqrt(fan_in) (a bias has the fan-in of
 * its weight), drawn from the Philox stream (seed, SL_RNG_INIT, tensor = index in the
 * layout); norm weights 1, norm biases 0; running means 0, running variances 1. A fixed
 * head is left as it is. */
void sl_model_init_uniform(const struct sl_model *m, uint64_t seed, float *ret_values);

/* The same with the splitmix rule: tensor t draws from splitmix64 started at
 * (seed << 32) ^ (t << 8) ^ 0xF1, u = (x >> 40) 2^-24, w = (2u - 1) b, b = gain /
 * sqrt(fan_in) for weights and 1 / sqrt(fan_in) for biases, in float arithmetic. */
void sl_model_init_splitmix(const struct sl_model *m, uint64_t seed, double gain,
                            float *ret_values);

/* The fixed head of a run, if the model has one: rows drawn from the normal stream (seed, SL_RNG_HEAD,
 * tensor = row) and made orthonormal by Gram-Schmidt, twice, in double. Bits depend on nothing else. */
enum sl_code sl_model_init_head(const struct sl_model *m, uint64_t seed, float *ret_values,
                                struct sl_err *err);
/* Are the head's rows orthonormal, each product within SL_HEAD_ORTHONORMAL? SL_E_INPUT else. */
#define SL_HEAD_ORTHONORMAL 1e-5
enum sl_code sl_model_check_head(const struct sl_model *m, const float *values,
                                 struct sl_err *err);

#endif
