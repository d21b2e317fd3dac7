/* SPDX-License-Identifier: Apache-2.0 */
/* fedmarl.h - what the experiment fedmarl is made of. Parts with real training: a federation under
 * each policy in turn, result {POLICY: {late, last, latency, traffic, accepted, return, plain,
 * worst, accuracy [rounds]}}: mean accuracy of the last 10 rounds and accuracy of the last; sums of H / H_ref and B / N;
 * clients accepted a round; return with the reward of the policy's own training, and with a window
 * of one round; accuracy of the worst class at the end. Parts with cached updates: a training with
 * something changed, result {POLICY: {late, latency, traffic, accepted, return}} over held-out
 * federations. fedmarl.c lists and runs the cells, fedmarl_report.c shows them. */
#ifndef SL_SIM_EXPERIMENT_FEDMARL_H
#define SL_SIM_EXPERIMENT_FEDMARL_H

#include <jansson.h>
#include <stdbool.h>

#include "sim/experiment/page.h"

struct sl_fedmarl_part {
    const char *name, *says;
    const char *partition; /* of partitions.h */
    const char *model;
    bool rivals; /* else fedmarl and all alone */
};
extern const struct sl_fedmarl_part sl_fedmarl_parts[];
extern const size_t sl_fedmarl_n_parts;

#define SL_FEDMARL_SETTING "policies" /* of cells with real training */
#define SL_FEDMARL_PRICES "prices"
#define SL_FEDMARL_ABLATION "ablation"

void sl_fedmarl_report(const json_t *results, struct sl_page *page);

#endif
