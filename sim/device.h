/* SPDX-License-Identifier: Apache-2.0 */
/* device.h - how fast a virtual client computes and how well it is connected. A client's
 * figures are a pure function of (plan, client): constant; lognormal around the plan's
 * figures, drawn from the client's own stream; or row (client mod rows) of a measured
 * trace. Thread: any, once made. */
#ifndef SL_SIM_DEVICE_H
#define SL_SIM_DEVICE_H

#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"
#include "common/rng.h"
#include "sim/trace.h"

struct sl_device_model {
    enum sl_sim_law { SL_LAW_CONSTANT, SL_LAW_LOGNORMAL, SL_LAW_TRACE } law;
    uint64_t seed;
    double samples_per_s, sigma;
    struct sl_trace trace; /* columns: samples_per_s */
};

/* SL_E_INPUT for an unknown law or a bad trace. */
enum sl_code sl_device_model_init(struct sl_device_model *d, const struct sl_plan *plan,
                                  struct sl_err *err);
void sl_device_model_deinit(struct sl_device_model *d); /* NULL and {0} allowed */

/* Microseconds that `client` needs to train on n samples once. */
uint64_t sl_device_train_us(const struct sl_device_model *d, uint32_t client, uint64_t n);

/* Reads "constant", "lognormal", "trace"; `what` names the key in messages. */
enum sl_code sl_sim_law_of(const char *name, const char *what, enum sl_sim_law *ret,
                           struct sl_err *err);
/* exp(sigma * z): the factor of a lognormal law, z from the given stream. */
double sl_sim_lognormal(const struct sl_rng_id *id, double sigma);

#endif
