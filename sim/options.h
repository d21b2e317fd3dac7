/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - the command line of starling-sim, read and checked. Strings are borrowed
 * from argv. Thread: main only. */
#ifndef SL_SIM_OPTIONS_H
#define SL_SIM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"

#define SL_OPTIONS_MAX 64 /* of each repeatable option */

struct sl_sim_options {
    const char *verb; /* run, partition, check, experiment, train-policy; NULL = only --help, --version */
    const char *path; /* PLAN, DIR or NAME */
    struct sl_plan_override set[SL_OPTIONS_MAX + 1];
    size_t n_set;
    const char *only[SL_OPTIONS_MAX];
    size_t n_only;
    const char *report, *model_out, *replay, *svg;
    const char *out; /* experiment: folder of the results; train-policy: the policy's file */
    const char *policy; /* experiment fedmarl: file; NULL = the one that ships */
    const char *records; /* train-policy: a coordinator's log, NULL = play; run: written */
    uint64_t seeds[SL_OPTIONS_MAX];
    size_t n_seeds;
    unsigned jobs; /* 0 = one a core; experiment: one */
    bool quiet, csv, quick, list, no_run, help, version;
    char seed_text[48]; /* "run.seed=N" of --seed; the last override */
};

/* SL_E_USAGE with one line for an unknown verb or option, a missing or superfluous word,
 * a bad number. */
enum sl_code sl_sim_options_parse(int argc, char **argv, struct sl_sim_options *ret,
                                  struct sl_err *err);

/* The text of --help. */
extern const char sl_sim_help[];

#endif
