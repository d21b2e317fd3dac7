/* SPDX-License-Identifier: Apache-2.0 */
/* jacobian.h - what an attacker computes from a policy that it could read: Q values and how they move
 * with the inputs, in double, from the values of the network alone (server/selection/fedmarl/qnet.h).
 * Pure; thread: any. */
#ifndef SL_SIM_CMARL_JACOBIAN_H
#define SL_SIM_CMARL_JACOBIAN_H

#include "server/selection/fedmarl/qnet.h"

/* Of one row x[n_inputs]: ret_q[n_actions], and ret_j[n_actions, n_inputs] = dQ[a] / dx[i]; either may
 * be NULL. Where a hidden unit is exactly 0 its slope counts as 0. */
void sl_cmarl_jacobian(const struct sl_qnet *net, const double *x, double *ret_q, double *ret_j);

#endif
