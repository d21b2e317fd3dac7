/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/device.h"

#include <math.h>
#include <string.h>

#include "common/fdmath.h"

#define US 1e6
#define US_MAX 3.6e15 /* a century or so: keeps sums of times far from overflow */

enum sl_code sl_sim_law_of(const char *name, const char *what, enum sl_sim_law *ret,
                           struct sl_err *err)
{
    static const char *const names[] = {"constant", "lognormal", "trace"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum sl_sim_law)i;
            return SL_OK;
        }
    return sl_err_set(err, SL_E_INPUT, "%s: \"%s\" (constant, lognormal or trace)", what,
                      name);
}

double sl_sim_lognormal(const struct sl_rng_id *id, double sigma)
{
    struct sl_rng r;
    sl_rng_init(&r, id);
    return sl_exp(sigma * sl_rng_normal(&r));
}

enum sl_code sl_device_model_init(struct sl_device_model *d, const struct sl_plan *plan,
                                  struct sl_err *err)
{
    *d = (struct sl_device_model){.seed = plan->run.seed,
                                  .samples_per_s = plan->sim.world.samples_per_s,
                                  .sigma = plan->sim.world.device_sigma};
    enum sl_code rc =
        sl_sim_law_of(plan->sim.world.device, "sim.world.device", &d->law, err);
    if (rc == SL_OK && d->law == SL_LAW_TRACE)
        rc = sl_trace_load(plan->sim.world.device_trace, 1, &d->trace, err);
    return rc;
}

void sl_device_model_deinit(struct sl_device_model *d)
{
    if (d == NULL)
        return;
    sl_trace_deinit(&d->trace);
    *d = (struct sl_device_model){0};
}

static double rate(const struct sl_device_model *d, uint32_t client)
{
    if (d->law == SL_LAW_TRACE)
        return d->trace.value[client % d->trace.n_rows];
    if (d->law == SL_LAW_CONSTANT)
        return d->samples_per_s;
    struct sl_rng_id id = {.seed = d->seed, .purpose = SL_RNG_DEVICE, .client = client};
    return d->samples_per_s * sl_sim_lognormal(&id, d->sigma);
}

uint64_t sl_device_train_us(const struct sl_device_model *d, uint32_t client, uint64_t n)
{
    double r = rate(d, client);
    double us = r > 0 ? (double)n / r * US : 0;
    return us < US_MAX ? (uint64_t)us : (uint64_t)US_MAX;
}
