/* SPDX-License-Identifier: Apache-2.0 */
/* harden.h - adversarial training of a selection policy: again and again an adversary is trained against the
 * policy as it stands, then the team goes on learning in federations of which half are attacked by it
 * (haunted.h). Not resumable. Thread: any. */
#ifndef SL_SIM_CMARL_HARDEN_H
#define SL_SIM_CMARL_HARDEN_H

#include "server/selection/fedmarl/policy.h"
#include "sim/policy/policy_plan.h"
#include "sim/policy/update_table.h"
#include "sim/workers.h"

/* training.adversaries times, with training.adversary_episodes each; 0: the policy stays. The policy is
 * replaced by the last one, on success only. SL_E_RANGE without learner.credit. */
enum sl_code sl_cmarl_harden(const struct sl_policy_plan *plan, const struct sl_update_table *table,
                             struct sl_workers *workers, struct sl_fedmarl_policy *policy,
                             struct sl_err *err);

#endif
