/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/plan_model.h"

/* Replaces *m by what a change made of it. */
static enum sl_code take(struct sl_model_spec *m, enum sl_code rc,
                         const struct sl_model_spec *changed)
{
    if (rc != SL_OK)
        return rc;
    sl_model_spec_deinit(m);
    *m = *changed;
    return SL_OK;
}

/* Width and precision of the layers come first: they know the model by its own last layer. */
static enum sl_code make_spec(const struct sl_plan *p, uint32_t n_classes,
                              struct sl_model_spec *m, struct sl_err *err)
{
    struct sl_model_spec next = {0};
    bool named = p->model.name[0] != '\0';
    enum sl_code rc = named ? sl_model_spec_named(p->model.name, n_classes, m, err)
                            : sl_model_spec_copy(&p->model.layers, m, err);
    if (rc == SL_OK && p->model.width > 0)
        rc = take(m, sl_model_spec_width(m, p->model.width, &next, err), &next);
    if (rc == SL_OK && p->accelerator.matmul == SL_MATMUL_RTN)
        rc = take(m, sl_model_spec_ternary(m, &next, err), &next);
    if (rc == SL_OK && p->model.head == SL_HEAD_SPHERE) {
        bool squared = p->model.loss == SL_HEAD_SQUARED;
        float scale = squared ? 1.0f : (float)p->model.temperature;
        rc = take(m, sl_model_spec_sphere(m, n_classes, scale, named, &next, err), &next);
    }
    return rc;
}

enum sl_code sl_plan_model(const struct sl_plan *p, const struct sl_dataset *set,
                           uint32_t n_classes, struct sl_model **ret, struct sl_err *err)
{
    struct sl_model_spec spec = {0};
    struct sl_shape shape = {.n_dims = 3,
                             .dim = {set->channels, set->height, set->width}};
    bool squared = p->model.head == SL_HEAD_SPHERE && p->model.loss == SL_HEAD_SQUARED;
    enum sl_code rc = make_spec(p, n_classes, &spec, err);
    if (rc == SL_OK)
        rc = sl_model_new(&spec, &shape, n_classes,
                          squared ? SL_LOSS_SQUARED : SL_LOSS_SOFTMAX_CE, ret, err);
    sl_model_spec_deinit(&spec);
    return rc == SL_OK ? SL_OK : sl_err_wrap(err, rc, "model");
}
