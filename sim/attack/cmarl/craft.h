/* SPDX-License-Identifier: Apache-2.0 */
/* craft.h - a lie that makes one agent take a wanted action (Lin et al. 2020, section III.B):
 *   it-FGSM  x += step * sign(dQ[target]/dx), as often as it takes
 *   JSMA     two inputs at a time: J_t = dQ[target]/dx, J_o = sum over the others of dQ[a]/dx; of the
 *            pairs with (J_t[p] + J_t[q]) (J_o[p] + J_o[q]) < 0 that with the largest product moves by theta
 *            along J_t; when there is none, one step of it-FGSM
 *   d-JSMA   JSMA from a small theta; after a failure again from the truth with twice the theta
 *   any      d-JSMA, and where it fails steps along the sign of d(Q[target] - largest other)/dx, thetas as
 *            before: not in the paper; finds what there is to find when few inputs are free
 * within a legal range per input, for inputs of about unit scale. Computes with the values of the
 * victim's network; a success is what the policy's own forward pass says. Pure; thread: any. */
#ifndef SL_SIM_CMARL_CRAFT_H
#define SL_SIM_CMARL_CRAFT_H

#include <stdbool.h>

#include "server/selection/fedmarl/qnet.h"

enum sl_craft_method { SL_CRAFT_FGSM, SL_CRAFT_JSMA, SL_CRAFT_DJSMA, SL_CRAFT_ANY };

struct sl_craft_options {
    enum sl_craft_method method;
    double step;         /* of it-FGSM; theta of JSMA; the first theta of d-JSMA and any; > 0 */
    double step_most;    /* largest theta of these */
    uint32_t iterations; /* at most, with each theta; >= 1 */
    double margin;       /* the target must lead by more than this, >= 0 */
};

#define SL_CRAFT_DEFAULTS .method = SL_CRAFT_DJSMA, .step = .02, .step_most = .32, .iterations = 32

/* Legal values; an input with lo >= hi is not the attacker's to change. */
struct sl_craft_range {
    float lo[SL_QNET_INPUTS_MAX], hi[SL_QNET_INPUTS_MAX];
};

struct sl_craft_result {
    bool hit;            /* the target leads by more than the margin */
    double lead;         /* Q[target] less the largest other Q, as the policy computes them */
    uint32_t iterations; /* of the theta that ended it */
    double theta;
    double l1;           /* |ret_x - from|_1 */
};

/* ret_x[n_inputs]: the lie; without a hit the attempt with the largest lead (from itself included).
 * An input outside of its range comes into it only when it is changed. */
void sl_craft(const struct sl_qnet *net, const struct sl_craft_options *o,
              const struct sl_craft_range *range, const float *from, uint32_t target, float *ret_x,
              struct sl_craft_result *ret);

/* Q[target] less the largest other, by sl_qnet_forward. */
double sl_craft_lead(const struct sl_qnet *net, const float *x, uint32_t target);

#endif
