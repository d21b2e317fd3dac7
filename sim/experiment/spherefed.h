/* SPDX-License-Identifier: Apache-2.0 */
/* spherefed.h - what the experiment spherefed is made of: parts (model, partition,
 * lengths), methods (strategy, optimiser, arithmetic), heads, widths, and the rows they
 * give. spherefed.c lists and runs the cells, spherefed_report.c makes tables, plots and
 * the verdicts on the digest's points. Thread: any; constant. */
#ifndef SL_SIM_EXPERIMENT_SPHEREFED_H
#define SL_SIM_EXPERIMENT_SPHEREFED_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "sim/experiment/page.h"

enum sl_sphere_part {
    SL_SPHERE_MLP_01, /* Dirichlet 0.1 */
    SL_SPHERE_MLP_03,
    SL_SPHERE_MLP_IID,
    SL_SPHERE_LENET_01,
    SL_SPHERE_LENET_SHARDS, /* two label shards a client */
    SL_SPHERE_CNN_01,
    SL_SPHERE_CNN_SHARDS,
    SL_SPHERE_RESNET_01,
    SL_SPHERE_RESNET_SHARDS,
    SL_SPHERE_PARTS,
};

enum sl_sphere_method {
    SL_SPHERE_FEDAVG,
    SL_SPHERE_FEDPROX,
    SL_SPHERE_FEDNOVA,
    SL_SPHERE_FEDADAM,
    SL_SPHERE_FAST, /* FedAvg with FAST m = 4 */
    SL_SPHERE_METHODS,
};

enum sl_sphere_head {
    SL_SPHERE_TRAINED, /* the control: an ordinary head, cross-entropy */
    SL_SPHERE_SQUARED, /* fixed, squared loss: SphereFed */
    SL_SPHERE_COSINE_5, /* fixed, cross-entropy of cosines times a temperature */
    SL_SPHERE_COSINE_10,
    SL_SPHERE_COSINE_20,
    SL_SPHERE_COSINE_40,
    SL_SPHERE_HEADS,
};

#define SL_SPHERE_NAME 64
#define SL_SPHERE_ROWS 64 /* of a part, at most */

struct sl_sphere_row {
    enum sl_sphere_part part;
    enum sl_sphere_method method;
    enum sl_sphere_head head;
    unsigned width; /* features in front of the head; 0 = the model's own */
    char name[SL_SPHERE_NAME];
};

/* Name of a part, "setting" of a row. */
const char *sl_sphere_part_name(enum sl_sphere_part part);
const char *sl_sphere_method_name(enum sl_sphere_method method);
void sl_sphere_setting(enum sl_sphere_method method, enum sl_sphere_head head,
                       unsigned width, char ret[SL_SPHERE_NAME]);

/* The rows of a part in the order of the list; how many. */
size_t sl_sphere_rows(enum sl_sphere_part part,
                      struct sl_sphere_row ret[SL_SPHERE_ROWS]);

/* In a cell's result, over what sl_federated_run gives: mean3 (mean accuracy of the last
 * round and of those a tenth and a fifth of the run before it), last, calibrated (all
 * clients, at the end), gain (calibrated - mean3), last_cohort (calibrated with the
 * statistics of the last cohort alone), jump {raw, calibrated} (standard deviation of the
 * change from one calibration to the next of the accuracy before and after it), pooled
 * {apart, samples} (largest difference of the calibrated head to the one fitted to all
 * samples in one place, and test samples judged otherwise in sum). */
void sl_sphere_report(const json_t *results, struct sl_page *page);

#endif
