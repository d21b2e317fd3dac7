/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/net.h"

#include <string.h>

void *sl_take(struct sl_taker *t, size_t bytes)
{
    t->bytes += sl_arena_cost(bytes);
    return t->arena == NULL ? NULL : sl_arena_alloc(t->arena, bytes);
}

/* The top layer of a sequence: the last one that is not inside another. */
static size_t last_of(const struct sl_layer *layers, size_t first, size_t count)
{
    size_t last = first;
    for (size_t i = first; i < first + count; i += sl_layer_span(&layers[i].spec))
        last = i;
    return last;
}

struct sl_shape sl_sequence_output(const struct sl_layer *layers, size_t first,
                                   size_t count)
{
    return layers[last_of(layers, first, count)].out;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void plan_gradients(struct sl_net *net, const struct sl_model *m, size_t n,
                           struct sl_taker *t)
{
    size_t widest[SL_LAYER_DEPTH + 1] = {m->input_size};
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct sl_layer *l = &m->layers[i];
        widest[l->depth] = larger(widest[l->depth], larger(l->in_size, l->out_size));
    }
    for (size_t d = 0; d <= SL_LAYER_DEPTH && widest[d] > 0; d++)
        for (unsigned turn = 0; turn < 2; turn++)
            net->grad[d][turn] = sl_take(t, n * widest[d] * sizeof(float));
}

void sl_net_plan(struct sl_net *net, const struct sl_model *m, size_t max_batch,
                 const struct sl_matmul_unit *unit, uint32_t cpu, struct sl_taker *t)
{
    const struct sl_unit_options options = net->unit.options;
    size_t scratch = 0, unit_scratch = 0;
    net->model = m;
    net->max_batch = max_batch;
    sl_kernels_init(&net->kernels, cpu);
    net->y = sl_take(t, m->n_layers * sizeof(*net->y));
    net->aux = sl_take(t, m->n_layers * sizeof(*net->aux));
    net->keep = sl_take(t, m->n_layers * sizeof(*net->keep));
    net->number = sl_take(t, m->n_layers * sizeof(*net->number));
    net->ledger = sl_take(t, m->n_layers * sizeof(*net->ledger));
    net->n_numbers = 0;
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct sl_layer *l = &m->layers[i];
        bool own = !l->ops->view && !l->in_place;
        float *y = own ? sl_take(t, max_batch * l->out_size * sizeof(float)) : NULL;
        void *aux = l->ops->aux_bytes == NULL
                        ? NULL
                        : sl_take(t, l->ops->aux_bytes(l, max_batch));
        if (t->arena != NULL) {
            net->y[i] = y;
            net->aux[i] = aux;
        }
        if (l->ops->scratch_bytes != NULL)
            scratch = larger(scratch, l->ops->scratch_bytes(l, max_batch));
        struct sl_unit_bytes u = {0};
        if (l->ops->unit_bytes != NULL) {
            l->ops->unit_bytes(l, max_batch, unit, &options, &u);
            net->n_numbers++;
        }
        unit_scratch = larger(unit_scratch, u.scratch);
        void *keep = u.keep > 0 ? sl_take(t, u.keep) : NULL;
        if (t->arena != NULL) {
            net->keep[i] = keep;
            net->number[i] = l->ops->unit_bytes != NULL ? net->n_numbers : 0;
        }
    }
    plan_gradients(net, m, max_batch, t);
    net->scratch = sl_take(t, scratch);
    net->unit = (struct sl_unit_ctx){.unit = unit,
                                     .kernels = &net->kernels,
                                     .scratch = sl_take(t, unit_scratch),
                                     .options = options,
                                     .version = 1};
}

struct sl_pass_ctx sl_net_pass(struct sl_net *net, const float *values)
{
    return (struct sl_pass_ctx){.net = net,
                                .k = &net->kernels,
                                .unit = &net->unit,
                                .values = values,
                                .scratch = net->scratch};
}

/* Input of layer i of a sequence that was given x. */
static const float *input_of(const struct sl_pass_ctx *c, const struct sl_layer *l,
                             const float *x)
{
    return l->previous == SL_NO_LAYER ? x : c->net->y[l->previous];
}

/* The unit works for layer i from here on. */
static void enter(const struct sl_pass_ctx *c, size_t i)
{
    c->unit->draw.tensor = (uint32_t)i;
    c->unit->keep = c->net->keep[i];
    c->unit->place.layer = c->net->number[i];
    c->unit->place.n_layers = c->net->n_numbers;
    c->unit->place.part = (uint32_t)(c->first / c->net->max_batch);
    memset(c->unit->place.calls, 0, sizeof(c->unit->place.calls));
}

static void add_pass(uint64_t to[SL_PASSES], const uint64_t now[SL_PASSES],
                     const uint64_t before[SL_PASSES])
{
    for (int p = 0; p < SL_PASSES; p++)
        to[p] += now[p] - before[p];
}

/* What the unit did since `before` counts for layer i. */
static void leave(const struct sl_pass_ctx *c, size_t i,
                  const struct sl_unit_ledger *before)
{
    struct sl_unit_ledger *to = &c->net->ledger[i];
    const struct sl_unit_ledger *now = &c->unit->ledger;
    if (c->net->number[i] == 0)
        return;
    add_pass(to->calls, now->calls, before->calls);
    add_pass(to->macs, now->macs, before->macs);
    add_pass(to->work, now->work, before->work);
    add_pass(to->cycles, now->cycles, before->cycles);
    add_pass(to->conversions, now->conversions, before->conversions);
    add_pass(to->bits, now->bits, before->bits);
    to->infinities += now->infinities - before->infinities;
    to->ternary_macs += now->ternary_macs - before->ternary_macs;
    for (int r = 0; r < SL_ROLES; r++) {
        to->widths[r] += now->widths[r] - before->widths[r];
        to->wide[r] += now->wide[r] - before->wide[r];
    }
}

const float *sl_net_sequence_forward(const struct sl_pass_ctx *c, size_t first,
                                     size_t count, const float *x)
{
    const struct sl_layer *layers = c->net->model->layers;
    const float *last = x;
    for (size_t i = first; i < first + count; i += sl_layer_span(&layers[i].spec)) {
        const struct sl_layer *l = &layers[i];
        const float *in = input_of(c, l, x);
        if (l->ops->view || l->in_place)
            c->net->y[i] = (float *)in; /* a view of x itself is never written through */
        if (!l->ops->view) {
            struct sl_unit_ledger before = c->unit->ledger;
            enter(c, i);
            l->ops->forward(l, c, in, c->net->y[i], c->net->aux[i]);
            leave(c, i, &before);
        }
        last = c->net->y[i];
    }
    return last;
}

/* Walks from the last layer of the sequence to the first; dy lies in grad[depth][turn].
 */
static const float *walk_back(const struct sl_pass_ctx *c, size_t first, size_t count,
                              const float *x, unsigned turn, bool want_dx)
{
    const struct sl_layer *layers = c->net->model->layers;
    size_t i = last_of(layers, first, count);
    unsigned depth = layers[first].depth;
    while (i != SL_NO_LAYER) {
        const struct sl_layer *l = &layers[i];
        float *dy = c->net->grad[depth][turn];
        bool need = want_dx || l->has_params_before;
        if (!l->ops->view) {
            unsigned next = l->ops->grad_in_place ? turn : 1 - turn;
            struct sl_unit_ledger before = c->unit->ledger;
            enter(c, i);
            l->ops->backward(l, c, input_of(c, l, x), c->net->y[i], dy,
                             need ? c->net->grad[depth][next] : NULL, c->net->aux[i]);
            leave(c, i, &before);
            turn = next;
        }
        if (!need)
            return NULL;
        i = l->previous;
    }
    return c->net->grad[depth][turn];
}

const float *sl_net_sequence_backward(const struct sl_pass_ctx *c, size_t first,
                                      size_t count, const float *x, const float *dy,
                                      bool want_dx)
{
    const struct sl_layer *layers = c->net->model->layers;
    size_t out = layers[last_of(layers, first, count)].out_size;
    memcpy(c->net->grad[layers[first].depth][0], dy, c->n * out * sizeof(*dy));
    return walk_back(c, first, count, x, 0, want_dx);
}

const float *sl_net_forward(const struct sl_pass_ctx *c, const float *x)
{
    return sl_net_sequence_forward(c, 0, c->net->model->n_layers, x);
}

float *sl_net_output_gradient(struct sl_net *net)
{
    return net->grad[0][0];
}

const float *sl_net_backward(const struct sl_pass_ctx *c, const float *x, bool want_dx)
{
    return walk_back(c, 0, c->net->model->n_layers, x, 0, want_dx);
}
