/* SPDX-License-Identifier: Apache-2.0 */
/* check_layer.c - vectors of single layers, losses, the sphere head and optimisers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/check_case.h"
#include "accel/nn/loss.h"
#include "accel/nn/optim.h"
#include "accel/nn/sphere_head.h"

/* --- layers
 * --------------------------------------------------------------------------------- */

/* The spec of a case of one layer; residual_add is a dense layer around which x is added.
 */
static bool spec_of(struct sl_case *c, struct sl_layer_spec ret[2], size_t *ret_n)
{
    bool residual = strcmp(c->kind, "residual_add") == 0;
    const char *kind_name = residual ? "dense" : c->kind;
    const struct sl_case_field *w = sl_case_find(c, "in_w");
    enum sl_layer_kind kind;
    if (!sl_layer_kind_of(kind_name, &kind)) {
        sl_case_fail(c, "kind", "-", "a known kind", c->kind);
        return false;
    }
    struct sl_layer_spec l = sl_layer_default(kind);
    l.out = w == NULL ? 0 : (uint32_t)w->dim[0];
    l.kernel = (uint32_t)sl_case_param(c, "kernel", 0);
    l.stride = (uint32_t)sl_case_param(c, "stride", 1);
    l.pad = (uint32_t)sl_case_param(c, "pad", 0);
    l.groups = (uint32_t)sl_case_param(c, "groups", 0);
    l.heads = (uint32_t)sl_case_param(c, "heads", 0);
    l.causal = json_is_true(json_object_get(c->params, "causal"));
    l.bias = sl_case_find(c, "in_b") != NULL;
    l.eps = (float)sl_case_param(c, "eps", (double)l.eps);
    l.momentum = (float)sl_case_param(c, "momentum", (double)l.momentum);
    *ret_n = residual ? 2 : 1;
    if (residual) {
        ret[0] = sl_layer_default(SL_LAYER_RESIDUAL);
        ret[0].n_body = 1;
    }
    ret[*ret_n - 1] = l;
    return true;
}

/* "fc1.weight" is in_w / out_dw, "attn1.q.bias" in_bq / out_dbq, "norm1.running_var"
 * itself. */
static void field_of(const struct sl_tensor *t, const char *before, char *ret,
                     size_t size)
{
    const char *last = strrchr(t->name, '.') + 1;
    char part = last - t->name >= 3 && last[-3] == '.' ? last[-2] : '\0';
    if (t->role == SL_TENSOR_BUFFER)
        snprintf(ret, size, "%s%s", before, last);
    else
        snprintf(ret, size, "%s%c%c", before, last[0], part);
}

static bool take_values(struct sl_case *c, struct sl_case_rig *r)
{
    char name[64];
    for (size_t i = 0; i < r->model->layout.n_tensors; i++) {
        const struct sl_tensor *t = &r->model->layout.tensors[i];
        field_of(t, "in_", name, sizeof(name));
        const struct sl_case_field *f = sl_case_need(c, name, 'f');
        if (f == NULL)
            return false;
        if (f->n != t->size) {
            sl_case_fail(c, name, "-", "the tensor's size", "another size");
            return false;
        }
        memcpy(r->values + t->offset, f->data, t->size * sizeof(float));
    }
    return true;
}

static void compare_tensors(struct sl_case *c, const struct sl_case_rig *r, bool train)
{
    char name[64];
    for (size_t i = 0; i < r->model->layout.n_tensors; i++) {
        const struct sl_tensor *t = &r->model->layout.tensors[i];
        bool buffer = t->role == SL_TENSOR_BUFFER;
        field_of(t, buffer ? "out_" : "out_d", name, sizeof(name));
        if (!buffer || train)
            sl_case_expect(c, name, 0, (buffer ? r->values : r->grads) + t->offset,
                           t->size);
    }
}

static void run_rig(struct sl_case *c, struct sl_case_rig *r)
{
    const struct sl_case_field *x = sl_case_need(c, "in_x", 'f');
    const struct sl_case_field *dy = sl_case_need(c, "in_dy", 'f');
    const char *mode = json_string_value(json_object_get(c->params, "mode"));
    struct sl_pass_ctx p = sl_net_pass(&r->net, r->values);
    size_t n_out = r->n * r->model->output_size;
    double loss = 0.0;
    if (dy == NULL || dy->n != n_out || x->n != r->n * r->model->input_size) {
        sl_case_fail(c, "in_dy", "-", "input and output sizes", "another size");
        return;
    }
    p.n = r->n;
    p.train = mode == NULL || strcmp(mode, "train") == 0;
    p.stats = p.train ? r->values : NULL;
    p.grads = r->grads;
    const float *y = sl_net_forward(&p, x->data);
    sl_case_expect(c, "out_y", 0, y, n_out);
    for (size_t i = 0; i < n_out; i++)
        loss += (double)y[i] * (double)((const float *)dy->data)[i];
    sl_case_expect_number(c, "out_loss", 0, loss);
    memcpy(sl_net_output_gradient(&r->net), dy->data, n_out * sizeof(float));
    sl_case_expect(c, "out_dx", 0, sl_net_backward(&p, x->data, true), x->n);
    compare_tensors(c, r, p.train);
}

void sl_case_run_layer(struct sl_case *c)
{
    struct sl_layer_spec layers[2];
    struct sl_case_rig rig;
    struct sl_err err;
    size_t n;
    const struct sl_case_field *x = sl_case_need(c, "in_x", 'f');
    if (x == NULL || !spec_of(c, layers, &n))
        return;
    struct sl_shape in = sl_case_sample_shape(x);
    if (sl_case_rig_open(c, &(struct sl_model_spec){layers, n}, &in, x->dim[0], &rig,
                         &err) != SL_OK) {
        sl_case_fail(c, "params", "-", "a layer that can be built", err.msg);
        return;
    }
    if (take_values(c, &rig))
        run_rig(c, &rig);
    sl_case_rig_close(&rig);
}

/* --- losses
 * --------------------------------------------------------------------------------- */

void sl_case_run_loss(struct sl_case *c)
{
    const struct sl_case_field *x = sl_case_need(c, "in_x", 'f');
    const struct sl_case_field *labels = sl_case_need(c, "in_labels", 'i');
    bool softmax = strcmp(c->kind, "softmax_cross_entropy") == 0;
    struct sl_loss_sums sums = {0};
    struct sl_kernels k;
    if (x == NULL || x->n_dims != 2 ||
        !sl_case_labels_fit(c, labels, x->dim[0], x->dim[1]))
        return;
    float *d = sl_calloc(x->n, sizeof(*d));
    if (d == NULL) {
        sl_case_fail(c, "memory", "-", "enough", "too little");
        return;
    }
    sl_kernels_init(&k, c->cpu);
    sl_loss(softmax ? SL_LOSS_SOFTMAX_CE : SL_LOSS_SQUARED, &k, x->data, labels->data,
            x->dim[0], x->dim[1], 1.0f / (float)x->dim[0], d, &sums);
    sl_case_expect_number(c, "out_loss", 0, sums.loss / (double)x->dim[0]);
    sl_case_expect(c, "out_dx", 0, d, x->n);
    if (softmax) {
        k.elem.softmax_rows(x->data, d, x->dim[0], x->dim[1], NULL, NULL);
        sl_case_expect(c, "out_probabilities", 0, d, x->n);
    }
    free(d);
}

void sl_case_run_sphere_head(struct sl_case *c)
{
    const struct sl_case_field *h = sl_case_need(c, "in_h", 'f');
    const struct sl_case_field *w0 = sl_case_need(c, "in_w0", 'f');
    const struct sl_case_field *labels = sl_case_need(c, "in_labels", 'i');
    struct sl_loss_sums sums = {0};
    struct sl_kernels k;
    if (h == NULL || w0 == NULL || h->n_dims != 2 || w0->n_dims != 2 ||
        w0->dim[1] != h->dim[1] ||
        !sl_case_labels_fit(c, labels, h->dim[0], w0->dim[0])) {
        sl_case_fail(c, "in_h", "-", "h [B, D], w0 [C, D], labels [B]", "something else");
        return;
    }
    size_t n = h->dim[0], width = h->dim[1], classes = w0->dim[0];
    float *z = sl_calloc(2 * n * (width + classes), sizeof(*z));
    if (z == NULL) {
        sl_case_fail(c, "memory", "-", "enough", "too little");
        return;
    }
    float *dh = z + n * width, *o = dh + n * width, *d = o + n * classes;
    struct sl_unit_ctx unit = {.unit = &sl_matmul_fp32, .kernels = &k};
    struct sl_sphere_head head = {.width = width,
                                  .classes = classes,
                                  .w0 = w0->data,
                                  .eps = (float)sl_case_param(c, "eps", 1e-12)};
    sl_kernels_init(&k, c->cpu);
    sl_sphere_head_forward(&head, &unit, n, h->data, z, o);
    sl_case_expect(c, "out_o", 0, o, n * classes);
    sl_loss(SL_LOSS_SQUARED, &k, o, labels->data, n, classes, 1.0f / (float)n, d, &sums);
    sl_case_expect_number(c, "out_loss", 0, sums.loss / (double)n);
    sl_sphere_head_backward(&head, &unit, n, h->data, z, d, dh);
    sl_case_expect(c, "out_dh", 0, dh, n * width);
    free(z);
}

/* --- optimisers
 * ----------------------------------------------------------------------------- */

void sl_case_run_optimizer(struct sl_case *c)
{
    const struct sl_case_field *w = sl_case_need(c, "in_w", 'f');
    const struct sl_case_field *grads = sl_case_need(c, "in_grads", 'f');
    const char *name = json_string_value(json_object_get(c->params, "optimizer"));
    const json_t *betas = json_object_get(c->params, "betas");
    struct sl_kernels k;
    if (w == NULL || grads == NULL || grads->n_dims != 2 || grads->dim[1] != w->n ||
        name == NULL) {
        sl_case_fail(c, "in_grads", "-", "[steps, values]", "something else");
        return;
    }
    size_t n = w->n;
    float *v = sl_calloc(3 * n, sizeof(*v));
    if (v == NULL) {
        sl_case_fail(c, "memory", "-", "enough", "too little");
        return;
    }
    struct sl_optim o = {.kind = strcmp(name, "adam") == 0 ? SL_OPT_ADAM : SL_OPT_SGD,
                         .lr = sl_case_param(c, "lr", 0.0),
                         .momentum = sl_case_param(c, "momentum", 0.0),
                         .weight_decay = sl_case_param(c, "weight_decay", 0.0),
                         .beta1 = json_number_value(json_array_get(betas, 0)),
                         .beta2 = json_number_value(json_array_get(betas, 1)),
                         .eps = sl_case_param(c, "eps", 0.0),
                         .slots = {v + n, v + 2 * n}};
    sl_kernels_init(&k, c->cpu);
    memcpy(v, w->data, n * sizeof(*v));
    sl_optim_start(&o);
    for (size_t s = 0; s < grads->dim[0]; s++) {
        sl_optim_step(&o, &k.elem, v, (const float *)grads->data + s * n, n);
        sl_case_expect(c, "out_params", s * n, v, n);
    }
    free(v);
}
