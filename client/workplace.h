/* SPDX-License-Identifier: Apache-2.0 */
/* workplace.h - what a daemon's worker needs for the tasks of one plan: the plan, this
 * client's samples, the model and the bench. Set up by the first task of a plan, kept for
 * the next ones, given up when nothing comes for a while. Of a partition's data only this
 * client's rows stay in memory. Thread: one at a time (the worker while a job is under
 * way, else the loop thread). */
#ifndef SL_CLIENT_WORKPLACE_H
#define SL_CLIENT_WORKPLACE_H

#include <stdbool.h>

#include "client/client.h"
#include "common/dataset.h"

struct sl_workplace;

struct sl_workplace_config {
    /* kind NULL: a row of the plan's partition; else this client's own samples. Borrowed.
     */
    struct sl_dataset_source own;
    const char
        *data_path; /* where the plan's data set lies here; NULL = as the plan says */
    const struct sl_accelerator *hardware; /* borrowed; NULL = as the plan says */
    struct sl_client_store *store;         /* borrowed */
};

enum sl_code sl_workplace_new(const struct sl_workplace_config *config,
                              struct sl_workplace **ret, struct sl_err *err);
void sl_workplace_free(struct sl_workplace *w); /* NULL allowed */
/* Forgets plan, data, model and bench, and gives the memory back. */
void sl_workplace_clear(struct sl_workplace *w);
bool sl_workplace_is_clear(const struct sl_workplace *w);
/* Rounds of the plan it is set up for; 0 when it is clear. */
uint32_t sl_workplace_rounds(const struct sl_workplace *w);

/* Does a task; a TRAIN task's update is in the store afterwards. Of a plan with probes only the
 * probe epochs are done; ret->probed says so. */
void sl_workplace_do(struct sl_workplace *w, const struct sl_client_job *job,
                     struct sl_client_result *ret);
/* The rest of the same job, if nothing came in between. */
void sl_workplace_go_on(struct sl_workplace *w, const struct sl_client_job *job,
                        struct sl_client_result *ret);

/* Samples of a data set: for the registration. SL_OK and 0 without own data. */
enum sl_code sl_workplace_own_samples(const struct sl_workplace_config *config,
                                      uint64_t *ret, struct sl_err *err);

#endif
