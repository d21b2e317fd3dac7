/* SPDX-License-Identifier: Apache-2.0 */
/* partitions.h - the partitions that selection policies are trained and measured on:
 *   majority  80 % of a client's samples have one label, the rest are spread evenly over the others;
 *             sizes follow a power law (density x^-1.75 on 50 to 2000); clients may share samples
 *   dirichlet Dirichlet 0.1 or 0.3 over clients, per class (common/partition.h), 10 samples at least
 * Pure; thread: any. */
#ifndef SL_SIM_POLICY_PARTITIONS_H
#define SL_SIM_POLICY_PARTITIONS_H

#include "common/dataset.h"
#include "common/error.h"
#include "common/partition.h"

enum sl_policy_partition {
    SL_POLICY_MAJORITY,
    SL_POLICY_DIRICHLET_01,
    SL_POLICY_DIRICHLET_03,
    SL_POLICY_PARTITIONS
};

/* Of the first n samples of the set. A function of (kind, labels, clients, seed, number). */
enum sl_code sl_policy_partition_make(enum sl_policy_partition kind, const struct sl_dataset *set,
                                      uint32_t n, uint32_t clients, uint64_t seed, uint32_t number,
                                      struct sl_partition *ret, struct sl_err *err);

#endif
