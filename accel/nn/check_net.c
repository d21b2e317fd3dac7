/* SPDX-License-Identifier: Apache-2.0 */
/* check_net.c - vectors of whole nets: some full-batch steps through the trainer, every
 * step's loss, gradient, parameters and running statistics, and the outputs of the
 * trained net. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/kernels/cpu.h"
#include "accel/nn/check_case.h"
#include "accel/nn/check_nn.h"
#include "accel/nn/train.h"

/* --- layers from JSON
 * ----------------------------------------------------------------------- */

static uint32_t integer_of(const json_t *o, const char *key, uint32_t fallback)
{
    json_int_t v = json_integer_value(json_object_get(o, key));
    return json_is_integer(json_object_get(o, key)) && v >= 0 && v <= UINT32_MAX
               ? (uint32_t)v
               : fallback;
}

static float number_of(const json_t *o, const char *key, float fallback)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? (float)json_number_value(v) : fallback;
}

static enum sl_code add_layers(const json_t *layers, struct sl_model_spec *m,
                               unsigned depth, struct sl_err *err);

static enum sl_code add_residual(const json_t *o, size_t at, struct sl_model_spec *m,
                                 unsigned depth, struct sl_err *err)
{
    const json_t *shortcut = json_object_get(o, "shortcut");
    enum sl_code rc = add_layers(json_object_get(o, "layers"), m, depth + 1, err);
    if (rc != SL_OK)
        return rc;
    m->layers[at].n_body = (uint32_t)(m->n_layers - at - 1);
    if (json_is_array(shortcut))
        rc = add_layers(shortcut, m, depth + 1, err);
    m->layers[at].n_shortcut = (uint32_t)(m->n_layers - at - 1) - m->layers[at].n_body;
    return rc;
}

static enum sl_code add_layer(const json_t *o, struct sl_model_spec *m, unsigned depth,
                              struct sl_err *err)
{
    const char *type = json_string_value(json_object_get(o, "type"));
    const char *name = json_string_value(json_object_get(o, "name"));
    enum sl_layer_kind kind;
    size_t at = m->n_layers;
    if (type == NULL || !sl_layer_kind_of(type, &kind))
        return sl_err_set(err, SL_E_INPUT, "layer %zu: unknown type %s", at + 1,
                          type == NULL ? "(none)" : type);
    struct sl_layer_spec l = sl_layer_default(kind);
    snprintf(l.name, sizeof(l.name), "%s", name == NULL ? "" : name);
    l.out = integer_of(o, "out", l.out);
    l.kernel = integer_of(o, "kernel", l.kernel);
    l.stride = integer_of(o, "stride", l.stride);
    l.pad = integer_of(o, "pad", l.pad);
    l.groups = integer_of(o, "groups", l.groups);
    l.heads = integer_of(o, "heads", l.heads);
    l.bias = !json_is_false(json_object_get(o, "bias"));
    l.causal = json_is_true(json_object_get(o, "causal"));
    l.rate = number_of(o, "rate", l.rate);
    l.eps = number_of(o, "eps", l.eps);
    l.momentum = number_of(o, "momentum", l.momentum);
    enum sl_code rc = sl_model_spec_add(m, &l, err);
    if (rc == SL_OK && kind == SL_LAYER_RESIDUAL)
        rc = add_residual(o, at, m, depth, err);
    return rc;
}

static enum sl_code add_layers(const json_t *layers, struct sl_model_spec *m,
                               unsigned depth, struct sl_err *err)
{
    size_t i;
    const json_t *o;
    if (!json_is_array(layers) || depth > SL_LAYER_DEPTH)
        return sl_err_set(err, SL_E_INPUT, "layer %zu: no list of layers, or too deep",
                          m->n_layers + 1);
    json_array_foreach(layers, i, o)
    {
        enum sl_code rc = add_layer(o, m, depth, err);
        if (rc != SL_OK)
            return rc;
    }
    return SL_OK;
}

enum sl_code sl_check_layers(const json_t *layers, struct sl_model_spec *ret,
                             struct sl_err *err)
{
    struct sl_model_spec m = {0};
    enum sl_code rc = add_layers(layers, &m, 0, err);
    if (rc != SL_OK) {
        sl_model_spec_deinit(&m);
        return rc;
    }
    *ret = m;
    return SL_OK;
}

/* --- nets
 * ----------------------------------------------------------------------------------- */

/* Do names, shapes and offsets of the parameters stand as the vector says? */
static bool tensors_match(struct sl_case *c, const struct sl_model *m)
{
    const json_t *list = json_object_get(c->params, "tensors"), *o;
    size_t i;
    json_array_foreach(list, i, o)
    {
        const char *name = json_string_value(json_object_get(o, "name"));
        const struct sl_tensor *t =
            name == NULL ? NULL : sl_layout_find(&m->layout, name);
        if (t == NULL || t->offset != integer_of(o, "offset", UINT32_MAX) ||
            t->size != integer_of(o, "size", 0)) {
            sl_case_fail(c, "tensors", name == NULL ? "-" : name, "its offset and size",
                         t == NULL ? "no such tensor" : "others");
            return false;
        }
    }
    return true;
}

struct watch {
    float *grads;
};

static void keep_gradient(void *ctx, uint64_t step, const float *values, float *grads,
                          size_t n_params)
{
    struct watch *w = ctx;
    memcpy(w->grads, grads, n_params * sizeof(*grads));
}

static enum sl_code train_steps(struct sl_case *c, struct sl_case_rig *r,
                                const struct sl_samples *s, struct sl_err *err)
{
    struct sl_trainer *t = NULL;
    struct watch w = {r->grads};
    size_t n_params = r->model->n_params, n_stats = r->model->layout.n_values - n_params;
    uint32_t steps = (uint32_t)sl_case_param(c, "steps", 0);
    struct sl_train_spec spec = {.lr = sl_case_param(c, "lr", 0.0),
                                 .epochs = steps,
                                 .local_steps = -1,
                                 .hook = keep_gradient,
                                 .hook_ctx = &w};
    struct sl_trainer_options o = {.max_batch = r->n, .cpu_off = ~c->cpu};
    struct sl_train_result now;
    double before = 0.0;
    enum sl_code rc = sl_trainer_new(r->model, &o, &t, err);
    if (rc == SL_OK)
        rc = sl_train_begin(t, r->values, s, &spec, err);
    for (uint32_t i = 0; rc == SL_OK && i < steps; i++) {
        rc = sl_train_run(t, 1, &now, err);
        if (rc != SL_OK)
            break;
        sl_case_expect_number(c, "out_losses", i, (now.loss_sum - before) / (double)s->n);
        before = now.loss_sum;
        sl_case_expect(c, "out_grads", i * n_params, r->grads, n_params);
        sl_case_expect(c, "out_params", i * n_params, sl_train_values(t), n_params);
        if (n_stats > 0)
            sl_case_expect(c, "out_stats", i * n_stats, sl_train_values(t) + n_params,
                           n_stats);
    }
    if (rc == SL_OK)
        memcpy(r->values, sl_train_values(t), r->model->layout.n_values * sizeof(float));
    sl_trainer_free(t);
    return rc;
}

static void run_net(struct sl_case *c, struct sl_case_rig *r,
                    const struct sl_case_field *x, const struct sl_case_field *labels,
                    const struct sl_case_field *params)
{
    struct sl_err err;
    const struct sl_shape *in = &r->model->input;
    struct sl_dataset set = {.channels = 1,
                             .height = 1,
                             .width = in->dim[in->n_dims - 1],
                             .n_classes = r->model->n_classes,
                             .n = r->n,
                             .labels = labels->data,
                             .features = x->data};
    set.height = in->n_dims >= 2 ? in->dim[in->n_dims - 2] : 1;
    set.channels = in->n_dims == 3 ? in->dim[0] : 1;
    if (!tensors_match(c, r->model))
        return;
    sl_model_init_uniform(r->model, 0, r->values); /* running statistics at their start */
    memcpy(r->values, params->data, params->n * sizeof(float));
    if (train_steps(c, r, &(struct sl_samples){.set = &set, .n = r->n}, &err) != SL_OK) {
        sl_case_fail(c, "training", "-", "to succeed", err.msg);
        return;
    }
    struct sl_pass_ctx p = sl_net_pass(&r->net, r->values);
    p.n = r->n;
    sl_case_expect(c, "out_logits", 0, sl_net_forward(&p, x->data),
                   r->n * r->model->output_size);
}

void sl_case_run_net(struct sl_case *c)
{
    const struct sl_case_field *x = sl_case_need(c, "in_x", 'f');
    const struct sl_case_field *labels = sl_case_need(c, "in_labels", 'i');
    const struct sl_case_field *params = sl_case_need(c, "in_params", 'f');
    struct sl_model_spec spec = {0};
    struct sl_case_rig rig;
    struct sl_err err = {0};
    if (x == NULL || labels == NULL || params == NULL)
        return;
    struct sl_shape in = sl_case_sample_shape(x);
    enum sl_code rc = sl_check_layers(json_object_get(c->params, "layers"), &spec, &err);
    if (rc == SL_OK)
        rc = sl_case_rig_open(c, &spec, &in, x->dim[0], &rig, &err);
    sl_model_spec_deinit(&spec);
    if (rc != SL_OK) {
        sl_case_fail(c, "layers", "-", "a model that can be built", err.msg);
        return;
    }
    if (params->n != rig.model->n_params || x->n != rig.n * rig.model->input_size)
        sl_case_fail(c, "in_params", "-", "the model's parameters and inputs",
                     "another size");
    else if (sl_case_labels_fit(c, labels, rig.n, rig.model->n_classes))
        run_net(c, &rig, x, labels, params);
    sl_case_rig_close(&rig);
}
