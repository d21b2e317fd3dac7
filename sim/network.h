/* SPDX-License-Identifier: Apache-2.0 */
/* network.h - links between clients and coordinator: bandwidth up and down and round-trip
 * time of a client, a pure function of (plan, client) by the same laws as devices
 * (sim/device.h). Thread: any, once made. */
#ifndef SL_SIM_NETWORK_H
#define SL_SIM_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"
#include "sim/device.h"

struct sl_network_model {
    enum sl_sim_law law;
    uint64_t seed;
    double up_mbit, down_mbit, rtt_ms, sigma;
    struct sl_trace trace; /* columns: up Mbit/s, down Mbit/s, round trip ms */
};

struct sl_link {
    double up_bytes_per_us, down_bytes_per_us; /* 0 = no limit */
    uint64_t rtt_us;
};

enum sl_code sl_network_model_init(struct sl_network_model *n, const struct sl_plan *plan,
                                   struct sl_err *err);
void sl_network_model_deinit(struct sl_network_model *n); /* NULL and {0} allowed */

struct sl_link sl_network_link(const struct sl_network_model *n, uint32_t client);

/* When a message of n bytes, handed to a link direction at now_us, has arrived. Messages
 * of a direction follow one another: *free_us is when the direction is free again, and is
 * moved on. */
uint64_t sl_link_arrival_us(const struct sl_link *l, bool up, uint64_t now_us, size_t n,
                            uint64_t *free_us);

#endif
