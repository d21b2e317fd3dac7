/* SPDX-License-Identifier: Apache-2.0 */
/* Honest training on wrong labels; it has no strength. */
#include "sim/attack/attack.h"

const struct sl_attack_ops sl_attack_label_flip = {
    .name = "label-flip", .strength = 1, .flips_labels = true};
