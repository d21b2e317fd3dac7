/* SPDX-License-Identifier: Apache-2.0 */
/* vdn_state.h - what a learner holds; for vdn.c and vdn_file.c only. */
#ifndef SL_SERVER_FEDMARL_VDN_STATE_H
#define SL_SERVER_FEDMARL_VDN_STATE_H

#include "accel/nn/optim.h"
#include "server/selection/fedmarl/vdn.h"

/* With credit, rewards are hundredths: learned in larger units. */
#define SL_VDN_CREDIT_SCALE 10.0f

struct sl_vdn_step {
    float reward;
    uint32_t n, n_next; /* n_next 0: the episode ended */
};

struct sl_vdn {
    struct sl_vdn_options options;
    struct sl_qnet net, target; /* options.shape, with credit twice the actions: F, then G */
    struct sl_optim adam; /* slots point into moments */
    float *moments;       /* [2, n_values] */
    float *grads;         /* [n_values] */
    /* the replay, a ring of options.replay slots */
    float *s, *next;      /* [replay, n_agents, n_inputs] */
    uint8_t *actions;     /* [replay, n_agents] */
    float *own;           /* [replay, n_agents], scaled */
    struct sl_vdn_step *steps;
    uint32_t stored, at;
    uint64_t updates;
};

#endif
