/* SPDX-License-Identifier: Apache-2.0 */
/* tmc_net.h - the network that all agents of a team with messages share (Zhang, Lin, Zhang 2020):
 *     c = GRU(ReLU(FC(x)), h)     Q_loc = FC(c)     m = message(c), as wide as there are actions
 *     Q_glb of n = Q_loc of n + combination of the other agents' messages
 * x is an agent's observation, its last action and its number, the latter two one-hot. Two readings of
 * message() are offered: MLP, FC - leaky ReLU - FC, which has no memory (the paper's digest); CELL,
 * a GRU cell over ELU(FC(c)) whose state is the message, hence within (-1, 1) (the authors' code).
 * Likewise two of the combination: SUM, and MEAN over the n - 1 others; MUTE, a team without messages, is
 * what both are compared with. Rows of a batch are [group, agent]; a group is one team.
 * Owns: its values. Thread: a net that nobody changes may be read by any number of threads, each with
 * a trace of its own. */
#ifndef SL_SIM_POLICY_TMC_NET_H
#define SL_SIM_POLICY_TMC_NET_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "sim/policy/game.h"
#include "sim/policy/gru.h"

#define SL_TMC_HIDDEN_MAX 256u

enum sl_tmc_message { SL_TMC_MESSAGE_CELL, SL_TMC_MESSAGE_MLP };
enum sl_tmc_listen { SL_TMC_LISTEN_MEAN, SL_TMC_LISTEN_SUM, SL_TMC_LISTEN_MUTE };

struct sl_tmc_shape {
    uint32_t n_agents, n_inputs, n_actions; /* of the game */
    uint32_t hidden;                        /* 1..SL_TMC_HIDDEN_MAX; 64 */
    enum sl_tmc_message message;
    enum sl_tmc_listen listen;
};

struct sl_tmc_block { /* a weight [out, in] and its bias [out] */
    size_t w, b;      /* offsets in values */
    uint32_t out, in;
};

struct sl_tmc_net {
    struct sl_tmc_shape shape;
    uint32_t width; /* of x: inputs + actions + agents */
    struct sl_tmc_block fc, gru_i, gru_h, q;
    struct sl_tmc_block m1, m2; /* CELL: FC(c); m2 unused. MLP: both layers. */
    struct sl_tmc_block cell_i, cell_h;
    size_t n_values;
    float *values;
};

/* Values uniform in +-1/sqrt(fan_in) (GRU: 1/sqrt(hidden)), a function of the seed. SL_E_RANGE,
 * SL_E_NOMEM. */
enum sl_code sl_tmc_net_new(const struct sl_tmc_shape *shape, uint64_t seed,
                            struct sl_tmc_net *ret, struct sl_err *err);
void sl_tmc_net_deinit(struct sl_tmc_net *n); /* NULL and {0} allowed */

/* A pass over sequences: what came out, and what the way back needs. */
struct sl_tmc_trace {
    size_t steps, groups; /* most steps of a pass; groups of every pass */
    float *x;             /* [steps, rows, width], the caller's to fill; rows = groups * agents */
    float *a;             /* [steps, rows, hidden]: ReLU(FC(x)) */
    struct sl_gru_trace gru, cell;
    float *m1;     /* FC(c) after its activation: [steps, rows, actions or hidden] */
    float *local;  /* [steps, rows, actions]: Q_loc */
    float *m;      /* [steps, rows, actions]: messages; of CELL within cell.h */
    float *global; /* [steps, rows, actions]: Q_glb with every message */
    /* for the way back; NULL without */
    float *dm, *dm1, *dc, *da, *di, *dr, *di2, *dr2;
    float *memory;
};

/* way_back: with the memory that sl_tmc_net_backward wants. States start at zero. SL_E_NOMEM. */
enum sl_code sl_tmc_trace_new(const struct sl_tmc_net *n, size_t steps, size_t groups, int way_back,
                              struct sl_tmc_trace *ret, struct sl_err *err);
void sl_tmc_trace_deinit(struct sl_tmc_trace *t); /* NULL and {0} allowed */

/* One row of x: observation[n_inputs]; last: the action before, negative for none. */
void sl_tmc_fill_row(const struct sl_tmc_net *n, const float *observation, int last, uint32_t agent,
                     float *ret);

/* States at the start of the next pass: zeros, or what the last pass (of `steps`) ended with. */
void sl_tmc_trace_restart(const struct sl_tmc_net *n, struct sl_tmc_trace *t);
void sl_tmc_trace_continue(const struct sl_tmc_net *n, struct sl_tmc_trace *t, size_t steps);

/* steps: up to those of the trace. */
void sl_tmc_net_forward(const struct sl_tmc_net *n, struct sl_tmc_trace *t, size_t steps);
/* dglobal[steps, rows, actions] = d loss / d Q_glb; dmessage: d loss / d m besides. Adds to
 * grads[n_values]. States at the start are constants. */
void sl_tmc_net_backward(const struct sl_tmc_net *n, struct sl_tmc_trace *t, size_t steps,
                         const float *dglobal, const float *dmessage, float *grads);

/* The largest of q[n_actions], the first of equal ones. */
uint8_t sl_tmc_best(const float *q, uint32_t n_actions);

#endif
