/* SPDX-License-Identifier: Apache-2.0 */
/* plan_model.h - the model of a plan, made alike by coordinator, clients and simulator.
 * Thread: any. */
#ifndef SL_ACCEL_NN_PLAN_MODEL_H
#define SL_ACCEL_NN_PLAN_MODEL_H

#include "accel/nn/model.h"
#include "common/dataset.h"
#include "common/error.h"
#include "common/plan.h"

/* model.name or model.layers for samples shaped as those of *set; with accelerator.matmul
 * rtn its inner layers are ternary. With model.head sphere a fixed head takes the place of a named
 * model's last layer, and stands behind model.layers, which give the features. The caller frees
 * *ret. */
enum sl_code sl_plan_model(const struct sl_plan *p, const struct sl_dataset *set,
                           uint32_t n_classes, struct sl_model **ret, struct sl_err *err);

#endif
