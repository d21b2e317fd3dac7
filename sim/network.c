/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/network.h"

#define BYTES_PER_US 0.125 /* of 1 Mbit/s */
#define US_MAX 3.6e15

enum sl_code sl_network_model_init(struct sl_network_model *n, const struct sl_plan *plan,
                                   struct sl_err *err)
{
    *n = (struct sl_network_model){.seed = plan->run.seed,
                                   .up_mbit = plan->sim.world.up_mbit,
                                   .down_mbit = plan->sim.world.down_mbit,
                                   .rtt_ms = plan->sim.world.rtt_ms,
                                   .sigma = plan->sim.world.network_sigma};
    enum sl_code rc =
        sl_sim_law_of(plan->sim.world.network, "sim.world.network", &n->law, err);
    if (rc == SL_OK && n->law == SL_LAW_TRACE)
        rc = sl_trace_load(plan->sim.world.network_trace, 3, &n->trace, err);
    return rc;
}

void sl_network_model_deinit(struct sl_network_model *n)
{
    if (n == NULL)
        return;
    sl_trace_deinit(&n->trace);
    *n = (struct sl_network_model){0};
}

static uint64_t to_us(double us)
{
    return us < US_MAX ? (uint64_t)us : (uint64_t)US_MAX;
}

struct sl_link sl_network_link(const struct sl_network_model *n, uint32_t client)
{
    double up = n->up_mbit, down = n->down_mbit, rtt = n->rtt_ms;
    if (n->law == SL_LAW_TRACE) {
        const double *row = n->trace.value + 3 * (client % n->trace.n_rows);
        up = row[0];
        down = row[1];
        rtt = row[2];
    } else if (n->law == SL_LAW_LOGNORMAL) {
        struct sl_rng_id id = {
            .seed = n->seed, .purpose = SL_RNG_NETWORK, .client = client};
        double f = sl_sim_lognormal(&id, n->sigma);
        id.tensor = 1;
        up *= f;
        down *= f;
        rtt *= sl_sim_lognormal(&id, n->sigma);
    }
    return (struct sl_link){.up_bytes_per_us = up * BYTES_PER_US,
                            .down_bytes_per_us = down * BYTES_PER_US,
                            .rtt_us = to_us(rtt * 1000)};
}

uint64_t sl_link_arrival_us(const struct sl_link *l, bool up, uint64_t now_us, size_t n,
                            uint64_t *free_us)
{
    double rate = up ? l->up_bytes_per_us : l->down_bytes_per_us;
    uint64_t start = *free_us > now_us ? *free_us : now_us;
    *free_us = start + (rate > 0 ? to_us((double)n / rate) : 0);
    return *free_us + l->rtt_us / 2;
}
