/* SPDX-License-Identifier: Apache-2.0 */
/* world.h - a whole federation in one process: the real coordinator and the real clients
 * under a virtual clock, with links, devices and faults that come from one seed.
 *
 * One event, one step. Events are ordered by (virtual time, order of asking), so a run is
 * a function of (plans, seed): neither worker threads nor the machine's speed change
 * anything. Training runs on worker threads meanwhile; the loop waits for a result only
 * when its virtual completion is the next event. Messages are packed and unpacked as on
 * the wire, and sent again as NNG's REQ does when a reply does not come; sessions are
 * told apart by the coordinator's starts.
 *
 * Owns: store, coordinator, clients, everything virtual. Borrows: plans, hooks.
 * Thread: one; hooks are called on it. */
#ifndef SL_SIM_WORLD_H
#define SL_SIM_WORLD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/nn/model.h"
#include "common/error.h"
#include "common/log.h"
#include "common/plan.h"
#include "common/tensor.h"
#include "common/wire.h"
#include "server/store.h"
#include "sim/attack/attack.h"

struct sl_world;

/* What somebody who watches is told. Any may be NULL. */
struct sl_world_hooks {
    void *ctx;
    /* One object of a run's report; borrowed. */
    void (*report)(void *ctx, uint64_t run, json_t *line);
    /* As sl_coordinator_env's. */
    void (*record)(void *ctx, uint64_t run, uint32_t round, const uint8_t *bytes, size_t n);
    /* After the step in which a round was committed: the model and the strategy's state as they are
     * now. */
    void (*committed)(void *ctx, uint64_t run, uint32_t round,
                      const struct sl_layout *layout, const float *values,
                      const float *state, size_t n_state);
    /* A client's training ended well: its update as floats, n of them. Borrowed. */
    void (*updated)(void *ctx, uint64_t run, uint32_t round, uint32_t client,
                    const struct sl_update_meta *meta, const float *update, size_t n);
    /* The coordinator acknowledged an update to a client. */
    void (*accepted)(void *ctx, uint64_t run, uint32_t round, uint32_t client);
    /* The coordinator was killed, or has come back. */
    void (*coordinator)(void *ctx, bool alive, bool power_loss);
    /* After every step. */
    void (*stepped)(void *ctx, const struct sl_world *w);
};

struct sl_world_options {
    const struct sl_plan
        *plans; /* run one after the other; the first one's `sim` rules the world */
    size_t n_plans;
    unsigned jobs;         /* worker threads; 0 = one a core */
    const json_t *replay;  /* of a recorded run; NULL = none */
    const struct sl_attack *attack; /* of every plan's clients; NULL = all are honest */
    struct sl_log *log;    /* NULL = none */
    const char *blas_name; /* NULL = "" */
    struct sl_world_hooks hooks;
};

struct sl_world_stats {
    uint64_t steps, messages, wire_bytes, resent;
    uint32_t coordinator_kills, client_kills, dropouts;
    double virtual_s;
};

/* Loads data, enrols the clients, submits the plans. SL_E_INPUT and the like for what is
 * wrong with a plan. */
enum sl_code sl_world_new(const struct sl_world_options *opt, struct sl_world **ret,
                          struct sl_err *err);
void sl_world_free(struct sl_world *w); /* NULL allowed */

/* Steps until every run has ended, or max_steps went by (0 = no limit). SL_E_FAILED when
 * a run failed (with its reason); SL_E_BUG when nothing is left to happen, or the limit
 * is reached. */
enum sl_code sl_world_run(struct sl_world *w, uint64_t max_steps, struct sl_err *err);

uint64_t sl_world_now_us(const struct sl_world *w);
struct sl_world_stats sl_world_stats(const struct sl_world *w);
/* Borrowed; it may be asked at any time between steps. */
struct sl_store *sl_world_store(const struct sl_world *w);
/* The current (or last) run's model; NULL before the first, and while the coordinator is
 * down. */
const float *sl_world_model(const struct sl_world *w,
                            const struct sl_layout **ret_layout);
/* Requests under way, regions of kept updates, blobs held: what must not pile up. */
struct sl_world_holdings {
    size_t requests, regions, blobs, events;
} sl_world_holdings(const struct sl_world *w);

#endif
