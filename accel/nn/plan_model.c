/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/plan_model.h"

static enum sl_code make_spec(const struct sl_plan *p, uint32_t n_classes,
                              struct sl_model_spec *ret, struct sl_err *err)
{
    struct sl_model_spec plain = {0};
    enum sl_code rc = p->model.name[0] != '\0'
                          ? sl_model_spec_named(p->model.name, n_classes, &plain, err)
                          : sl_model_spec_copy(&p->model.layers, &plain, err);
    if (rc != SL_OK || p->accelerator.matmul != SL_MATMUL_RTN) {
        *ret = plain;
        return rc;
    }
    rc = sl_model_spec_ternary(&plain, ret, err);
    sl_model_spec_deinit(&plain);
    return rc;
}

enum sl_code sl_plan_model(const struct sl_plan *p, const struct sl_dataset *set,
                           uint32_t n_classes, struct sl_model **ret, struct sl_err *err)
{
    struct sl_model_spec spec = {0};
    struct sl_shape shape = {.n_dims = 3,
                             .dim = {set->channels, set->height, set->width}};
    enum sl_code rc = make_spec(p, n_classes, &spec, err);
    if (rc == SL_OK)
        rc = sl_model_new(&spec, &shape, n_classes, SL_LOSS_SOFTMAX_CE, ret, err);
    sl_model_spec_deinit(&spec);
    return rc == SL_OK ? SL_OK : sl_err_wrap(err, rc, "model");
}
