/* SPDX-License-Identifier: Apache-2.0 */
/* experiment.h - experiments as data: each is a const table that lists cells, runs one,
 * and makes tables and plots of all. A cell is a JSON object that says everything about
 * one training: "part" and "setting" (what is compared), "seed", and the rest, usually a
 * whole plan. It is known by its canonical text, so a cell that was finished once is
 * never run again, and one whose meaning changed is another cell. A result is a JSON
 * object, too, and a function of its cell alone. Thread: the tables are constant; `run`
 * is called on several threads at once, the others on one. */
#ifndef SL_SIM_EXPERIMENT_H
#define SL_SIM_EXPERIMENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "sim/experiment/page.h"

#define SL_EXPERIMENT_SEEDS 64
#define SL_CELL_NAME 200

struct sl_experiment_options {
    const uint64_t *seeds;
    size_t n_seeds; /* >= 1 */
    bool quick;     /* a short form, for tests: seconds in all */
    const char *policy; /* fedmarl: the policy's file; NULL = the one that ships, from here */
};

struct sl_experiment {
    const char *name, *help; /* help: one line */
    size_t default_seeds;    /* 1, 2, ... unless the user says which */
    /* Appends cells; SL_E_NOMEM. */
    enum sl_code (*list)(const struct sl_experiment_options *o, json_t *cells,
                         struct sl_err *err);
    /* New reference in *ret. A training that diverges is a result, not an error. */
    enum sl_code (*run)(const json_t *cell, json_t **ret, struct sl_err *err);
    /* How long a cell takes in any unit, for the time left; NULL: all alike. */
    double (*work)(const json_t *cell);
    /* results: [{cell, result}] of the finished cells in the order of the list. */
    void (*report)(const json_t *results, struct sl_page *page);
};

extern const struct sl_experiment sl_experiment_fast, sl_experiment_tr, sl_experiment_rtn,
    sl_experiment_uplink, sl_experiment_spherefed, sl_experiment_robust,
    sl_experiment_strategies, sl_experiment_fedbuff, sl_experiment_tmc, sl_experiment_cmarl,
    sl_experiment_fedmarl;

/* By number from 0; NULL beyond the last. */
const struct sl_experiment *sl_experiment_at(size_t i);
/* NULL when there is none of this name. */
const struct sl_experiment *sl_experiment_find(const char *name);

/* "part/setting/seed-N", what --only matches and progress shows. */
void sl_cell_name(const json_t *cell, char ret[SL_CELL_NAME]);
/* Appends a cell with a plan of `text` (printf format). */
enum sl_code sl_cell_add(json_t *cells, const char *part, const char *setting,
                         uint64_t seed, struct sl_err *err, const char *text, ...)
    __attribute__((format(printf, 6, 7)));

/* --- running ---------------------------------------------------------------------- */

struct sl_experiment_job {
    const struct sl_experiment *experiment;
    struct sl_experiment_options options;
    const char *dir;         /* made if it is not there */
    const char *const *only; /* globs on names; n_only 0 = all */
    size_t n_only;
    unsigned jobs;  /* cells at a time, 1 to 256 */
    bool list_only; /* print the cells' names, run nothing */
    bool no_run;    /* report what is finished */
    bool quiet;     /* no progress */
};

/* Runs what is not finished, appending each result to DIR/results.jsonl as it comes; then
 * tables to stdout, and to DIR/report.html with the plots. Progress goes to stderr. A
 * failed cell ends the run (SL_E_FAILED and the like) after those under way; what is
 * finished stays. SL_E_USAGE: `only` matches no cell. SL_E_EXISTS: DIR is in use by
 * another process. */
enum sl_code sl_experiment_run(const struct sl_experiment_job *job, struct sl_err *err);

#endif
