/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - finished cells on disk: DIR/results.jsonl, a line {cell, result, wall_s} each,
 * appended in one write and synced, so that a kill at any instant loses at most the cells
 * under way. A line that a kill cut short is taken off at the next opening. One process
 * at a time has a folder open. Owns: descriptors and what it has read. Thread: one at a
 * time. */
#ifndef SL_SIM_EXPERIMENT_LOG_H
#define SL_SIM_EXPERIMENT_LOG_H

#include <jansson.h>

#include "common/error.h"

struct sl_results_log {
    int fd, lock;    /* -1 = none */
    json_t *by_cell; /* canonical text of a cell -> line */
    char path[4096];
};

/* Makes the folder, takes its lock and reads. SL_E_EXISTS when another process has it;
 * SL_E_INPUT for a line that is none of ours. */
enum sl_code sl_results_log_open(struct sl_results_log *l, const char *dir,
                                 struct sl_err *err);
void sl_results_log_close(struct sl_results_log *l);

/* The line of a finished cell, borrowed; NULL when it is not finished. */
const json_t *sl_results_log_find(const struct sl_results_log *l, const json_t *cell);
/* Borrows cell and result. */
enum sl_code sl_results_log_append(struct sl_results_log *l, const json_t *cell,
                                   json_t *result, double wall_s, struct sl_err *err);

#endif
