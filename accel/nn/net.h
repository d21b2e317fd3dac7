/* SPDX-License-Identifier: Apache-2.0 */
/* net.h - runs batches through a model's layers; for accel/nn only.
 * Owns nothing: its buffers lie in the arena it was planned into. An activation per layer
 * (none for views and for what overwrites its input), and per depth of residuals two
 * buffers that gradients walk down through, turn by turn. */
#ifndef SL_ACCEL_NN_NET_H
#define SL_ACCEL_NN_NET_H

#include "accel/nn/layer.h"
#include "common/mem.h"

struct sl_net {
    const struct sl_model *model;
    struct sl_kernels kernels;
    struct sl_unit_ctx unit;
    size_t max_batch;
    float **y;        /* [n_layers] */
    void **aux;       /* [n_layers] */
    void **keep;      /* [n_layers]: what the unit keeps for each */
    uint32_t *number; /* [n_layers]: of layers with products, from 1; 0 = none */
    uint32_t n_numbers;
    struct sl_unit_ledger *ledger; /* [n_layers]: what the unit did for each */
    float *grad[SL_LAYER_DEPTH + 1][2];
    void *scratch;
};

/* Takes pieces from an arena, or only adds up what they cost. */
struct sl_taker {
    struct sl_arena *arena; /* NULL: add up */
    size_t bytes;
};
void *sl_take(struct sl_taker *t, size_t bytes);

/* Plans net's buffers. First with t->arena NULL, for the bytes, then with the arena.
 * net->unit.options are read and kept. */
void sl_net_plan(struct sl_net *net, const struct sl_model *m, size_t max_batch,
                 const struct sl_matmul_unit *unit, uint32_t cpu, struct sl_taker *t);

/* What a pass needs to know; n, first, train and the rest are the caller's to set. */
struct sl_pass_ctx sl_net_pass(struct sl_net *net, const float *values);

/* Output of the model for c->n samples x; lies in the net until the next pass. */
const float *sl_net_forward(const struct sl_pass_ctx *c, const float *x);

/* Where the gradient of the output goes before sl_net_backward: [max_batch, output]. */
float *sl_net_output_gradient(struct sl_net *net);

/* Gradients of parameters to c->grads; x as given to forward. The input's gradient with
 * want_dx, in the net until the next pass; else NULL. */
const float *sl_net_backward(const struct sl_pass_ctx *c, const float *x, bool want_dx);

/* Layers first .. first + count - 1, as one sequence. backward copies dy first. */
const float *sl_net_sequence_forward(const struct sl_pass_ctx *c, size_t first,
                                     size_t count, const float *x);
const float *sl_net_sequence_backward(const struct sl_pass_ctx *c, size_t first,
                                      size_t count, const float *x, const float *dy,
                                      bool want_dx);

/* Shape that the sequence gives, once its layers are built. count >= 1. */
struct sl_shape sl_sequence_output(const struct sl_layer *layers, size_t first,
                                   size_t count);

#endif
