/* SPDX-License-Identifier: Apache-2.0 */
#include "server/selection/fedmarl/qnet.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/kernels/cpu.h"
#include "common/file.h"
#include "common/mem.h"
#include "common/rng.h"

#define FILE_MAX ((size_t)64 << 20)
#define TENSORS_MAX 6

/* One dense layer: where its weight and bias stand in the values. */
struct dense {
    size_t in, out;
    size_t weight, bias;
    bool input_major;
};

static struct dense dense_of(const struct sl_qnet_shape *s, uint32_t layer)
{
    size_t at = 0, in = s->n_inputs;
    for (uint32_t i = 0; i < layer; i++) {
        at += (in + 1) * s->hidden;
        in = s->hidden;
    }
    bool last = layer == s->layers;
    size_t out = last ? s->n_actions : s->hidden;
    return (struct dense){
        .in = in, .out = out, .weight = at, .bias = at + in * out, .input_major = !last};
}

static size_t values_of(const struct sl_qnet_shape *s)
{
    struct dense last = dense_of(s, s->layers);
    return last.bias + last.out;
}

static enum sl_code check_shape(const struct sl_qnet_shape *s, struct sl_err *err)
{
    if (s->n_inputs < 1 || s->n_inputs > SL_QNET_INPUTS_MAX || s->hidden < 1 ||
        s->hidden > SL_QNET_HIDDEN_MAX || s->layers < 1 || s->layers > 2 || s->n_actions < 2 ||
        s->n_actions > SL_QNET_ACTIONS_MAX)
        return sl_err_set(err, SL_E_RANGE,
                          "network of %u inputs, %u hidden layers of %u, %u actions (1 to %u, 1 "
                          "or 2 of 1 to %u, 2 to %u)",
                          s->n_inputs, s->layers, s->hidden, s->n_actions, SL_QNET_INPUTS_MAX,
                          SL_QNET_HIDDEN_MAX, SL_QNET_ACTIONS_MAX);
    return SL_OK;
}

static enum sl_code alloc(const struct sl_qnet_shape *shape, struct sl_qnet *ret,
                          struct sl_err *err)
{
    enum sl_code rc = check_shape(shape, err);
    if (rc != SL_OK)
        return rc;
    struct sl_qnet q = {.shape = *shape, .n_values = values_of(shape)};
    q.values = sl_calloc(q.n_values, sizeof(float));
    if (q.values == NULL)
        return sl_err_set(err, SL_E_NOMEM, "network of %zu values", q.n_values);
    sl_elem_ops_init(&q.ops, sl_cpu_usable());
    *ret = q;
    return SL_OK;
}

enum sl_code sl_qnet_new(const struct sl_qnet_shape *shape, uint64_t seed, struct sl_qnet *ret,
                         struct sl_err *err)
{
    enum sl_code rc = alloc(shape, ret, err);
    if (rc != SL_OK)
        return rc;
    for (uint32_t l = 0; l <= shape->layers; l++) {
        struct dense d = dense_of(shape, l);
        struct sl_rng rng;
        sl_rng_init(&rng,
                    &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_AGENT, .tensor = l + 1});
        float bound = (float)(1 / sqrt((double)d.in));
        for (size_t i = d.weight; i < d.bias + d.out; i++)
            ret->values[i] = (2 * sl_rng_f32(&rng) - 1) * bound;
    }
    return SL_OK;
}

void sl_qnet_deinit(struct sl_qnet *q)
{
    if (q == NULL)
        return;
    free(q->values);
    *q = (struct sl_qnet){0};
}

/* y[hidden] = relu(b + sum over k, in order, of x[k] W[k, :]) */
static void hidden_layer(const struct sl_qnet *q, const struct dense *d, const float *x, float *y)
{
    const float *w = q->values + d->weight;
    memcpy(y, q->values + d->bias, d->out * sizeof(float));
    for (size_t k = 0; k < d->in; k++)
        if (x[k] != 0)
            q->ops.axpy(x[k], w + k * d->out, y, d->out);
    q->ops.relu(y, y, d->out);
}

static void row_hidden(const struct sl_qnet *q, const float *x, float h[2][SL_QNET_HIDDEN_MAX])
{
    struct dense first = dense_of(&q->shape, 0);
    hidden_layer(q, &first, x, h[0]);
    if (q->shape.layers == 2) {
        struct dense second = dense_of(&q->shape, 1);
        hidden_layer(q, &second, h[0], h[1]);
    }
}

void sl_qnet_forward(const struct sl_qnet *q, const float *x, size_t n, float *ret_q)
{
    float h[2][SL_QNET_HIDDEN_MAX];
    struct dense last = dense_of(&q->shape, q->shape.layers);
    const float *w = q->values + last.weight, *b = q->values + last.bias;
    for (size_t i = 0; i < n; i++) {
        row_hidden(q, x + i * q->shape.n_inputs, h);
        for (size_t a = 0; a < last.out; a++)
            ret_q[i * last.out + a] =
                b[a] + q->ops.dot(h[q->shape.layers - 1], w + a * last.in, last.in);
    }
}

/* dw += x dy^T, db += dy; dx[k] = dot of row k and dy (dx NULL: not wanted). */
static void hidden_backward(const struct sl_qnet *q, const struct dense *d, const float *x,
                            const float *dy, float *dx, float *grads)
{
    q->ops.axpy(1, dy, grads + d->bias, d->out);
    for (size_t k = 0; k < d->in; k++) {
        if (x[k] != 0)
            q->ops.axpy(x[k], dy, grads + d->weight + k * d->out, d->out);
        if (dx != NULL)
            dx[k] = q->ops.dot(q->values + d->weight + k * d->out, dy, d->out);
    }
}

void sl_qnet_backward(const struct sl_qnet *q, const float *x, const float *dq, float *grads)
{
    float h[2][SL_QNET_HIDDEN_MAX], dh[2][SL_QNET_HIDDEN_MAX];
    const uint32_t top = q->shape.layers - 1;
    struct dense last = dense_of(&q->shape, q->shape.layers);
    row_hidden(q, x, h);
    memset(dh[top], 0, last.in * sizeof(float));
    for (size_t a = 0; a < last.out; a++) {
        if (dq[a] == 0)
            continue;
        q->ops.axpy(dq[a], h[top], grads + last.weight + a * last.in, last.in);
        grads[last.bias + a] += dq[a];
        q->ops.axpy(dq[a], q->values + last.weight + a * last.in, dh[top], last.in);
    }
    q->ops.relu_grad(h[top], dh[top], dh[top], q->shape.hidden);
    struct dense first = dense_of(&q->shape, 0);
    if (top == 1) {
        struct dense second = dense_of(&q->shape, 1);
        hidden_backward(q, &second, h[0], dh[1], dh[0], grads);
        q->ops.relu_grad(h[0], dh[0], dh[0], q->shape.hidden);
    }
    hidden_backward(q, &first, x, dh[0], NULL, grads);
}

/* --- files ------------------------------------------------------------------------------------ */

/* Copies a weight between the values and PyTorch's order [out, in]. */
static void copy_weight(const struct dense *d, float *values, float *file, bool to_file)
{
    for (size_t o = 0; o < d->out; o++)
        for (size_t i = 0; i < d->in; i++) {
            float *v = values + d->weight + (d->input_major ? i * d->out + o : o * d->in + i);
            float *f = file + o * d->in + i;
            *(to_file ? f : v) = *(to_file ? v : f);
        }
}

enum sl_code sl_qnet_save(const struct sl_qnet *q, const struct sl_safetensors_note *notes,
                          size_t n_notes, const char *path, struct sl_err *err)
{
    struct sl_safetensors_item items[TENSORS_MAX];
    char names[TENSORS_MAX][16];
    size_t n_items = 0, n = 0;
    float *file = sl_calloc(q->n_values, sizeof(float));
    if (file == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: %zu values", path, q->n_values);
    for (uint32_t l = 0; l <= q->shape.layers; l++) {
        struct dense d = dense_of(&q->shape, l);
        copy_weight(&d, q->values, file + d.weight, true);
        snprintf(names[n_items], sizeof(names[0]), "fc%u.weight", l + 1);
        items[n_items] = (struct sl_safetensors_item){
            .name = names[n_items], .n_dims = 2, .dim = {d.out, d.in}, .values = file + d.weight};
        n_items++;
        snprintf(names[n_items], sizeof(names[0]), "fc%u.bias", l + 1);
        items[n_items] = (struct sl_safetensors_item){
            .name = names[n_items], .n_dims = 1, .dim = {d.out}, .values = q->values + d.bias};
        n_items++;
    }
    uint8_t *bytes = NULL;
    enum sl_code rc = sl_safetensors_encode_noted(items, n_items, notes, n_notes, &bytes, &n, err);
    free(file);
    if (rc == SL_OK)
        rc = sl_file_write_atomic(path, bytes, n, true, err);
    else
        rc = sl_err_wrap(err, rc, "%s", path);
    free(bytes);
    return rc;
}

static enum sl_code no_network(const char *where, const char *name, const char *what,
                               struct sl_err *err)
{
    return sl_err_set(err, SL_E_INPUT, "%s: no policy network: tensor \"%s\" %s", where, name,
                      what);
}

/* The shape that fc1 .. fcN say; their agreement is checked as they are copied. */
static enum sl_code shape_of(const char *where, const struct sl_safetensors *s,
                             struct sl_qnet_shape *ret, struct sl_err *err)
{
    const struct sl_safetensor *first = sl_safetensors_find(s, "fc1.weight");
    const bool three = sl_safetensors_find(s, "fc3.weight") != NULL;
    const char *last_name = three ? "fc3.weight" : "fc2.weight";
    const struct sl_safetensor *last = sl_safetensors_find(s, last_name);
    if (first == NULL || last == NULL)
        return no_network(where, first == NULL ? "fc1.weight" : "fc2.weight", "is missing", err);
    if (first->n_dims != 2 || last->n_dims != 2)
        return no_network(where, first->n_dims != 2 ? "fc1.weight" : last_name,
                          "has not 2 dimensions", err);
    if (first->dim[1] > SL_QNET_INPUTS_MAX || first->dim[0] > SL_QNET_HIDDEN_MAX)
        return no_network(where, "fc1.weight", "is too large (at most [1024, 256])", err);
    if (last->dim[0] > SL_QNET_ACTIONS_MAX)
        return no_network(where, last_name, "is too large (at most 16 actions)", err);
    struct sl_qnet_shape shape = {.n_inputs = (uint32_t)first->dim[1],
                                  .hidden = (uint32_t)first->dim[0],
                                  .layers = three ? 2 : 1,
                                  .n_actions = (uint32_t)last->dim[0]};
    enum sl_code rc = check_shape(&shape, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, SL_E_INPUT, "%s: no policy network", where);
    if (s->n_tensors != 2 * (size_t)(shape.layers + 1))
        return sl_err_set(err, SL_E_INPUT, "%s: no policy network: %zu tensors (%u needed)", where,
                          s->n_tensors, 2 * (shape.layers + 1));
    *ret = shape;
    return SL_OK;
}

/* Values of fcN.<part> of that shape, all finite; out = 0: a bias of `in`. */
static enum sl_code take(const char *where, const struct sl_safetensors *s, uint32_t layer,
                         const char *part, size_t out, size_t in, float *ret, struct sl_err *err)
{
    char name[16];
    snprintf(name, sizeof(name), "fc%u.%s", layer + 1, part);
    const struct sl_safetensor *t = sl_safetensors_find(s, name);
    if (t == NULL)
        return no_network(where, name, "is missing", err);
    bool fits = out > 0 ? t->n_dims == 2 && t->dim[0] == out && t->dim[1] == in
                        : t->n_dims == 1 && t->dim[0] == in;
    if (!fits)
        return no_network(where, name, "has a shape that does not fit the others", err);
    sl_safetensors_floats(t, ret);
    for (size_t i = 0; i < t->n; i++)
        if (!isfinite(ret[i]))
            return sl_err_set(err, SL_E_INPUT, "%s: tensor \"%s\": value %zu is not finite", where,
                              name, i);
    return SL_OK;
}

static enum sl_code read_values(const char *where, const struct sl_safetensors *s,
                                struct sl_qnet *q, struct sl_err *err)
{
    float *file = sl_calloc(q->n_values, sizeof(float));
    if (file == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: %zu values", where, q->n_values);
    enum sl_code rc = SL_OK;
    for (uint32_t l = 0; rc == SL_OK && l <= q->shape.layers; l++) {
        struct dense d = dense_of(&q->shape, l);
        rc = take(where, s, l, "weight", d.out, d.in, file, err);
        if (rc == SL_OK)
            rc = take(where, s, l, "bias", 0, d.out, q->values + d.bias, err);
        if (rc == SL_OK)
            copy_weight(&d, q->values, file, false);
    }
    free(file);
    return rc;
}

enum sl_code sl_qnet_parse(const char *where, const uint8_t *bytes, size_t n, struct sl_qnet *ret,
                           struct sl_safetensors *ret_file, struct sl_err *err)
{
    struct sl_safetensors s = {0};
    struct sl_qnet q = {0};
    struct sl_qnet_shape shape;
    enum sl_code rc = sl_safetensors_open(where, bytes, n, &s, err);
    if (rc == SL_OK)
        rc = shape_of(where, &s, &shape, err);
    if (rc == SL_OK)
        rc = alloc(&shape, &q, err);
    if (rc == SL_OK)
        rc = read_values(where, &s, &q, err);
    if (rc != SL_OK || ret_file == NULL)
        sl_safetensors_deinit(&s);
    if (rc != SL_OK) {
        sl_qnet_deinit(&q);
        return rc;
    }
    if (ret_file != NULL)
        *ret_file = s;
    *ret = q;
    return SL_OK;
}

enum sl_code sl_qnet_load(const char *path, struct sl_qnet *ret, struct sl_safetensors *ret_file,
                          uint8_t **ret_bytes, struct sl_err *err)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    enum sl_code rc = sl_file_read(path, FILE_MAX, &bytes, &n, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_qnet_parse(path, bytes, n, ret, ret_file, err);
    if (rc != SL_OK || ret_bytes == NULL)
        free(bytes);
    else
        *ret_bytes = bytes;
    return rc;
}
