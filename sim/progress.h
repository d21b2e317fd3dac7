/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h - what a run shows while it goes on and at its end: on a terminal one line,
 * redrawn; else one line a round. Owns: the accuracies seen. Thread: main only. */
#ifndef SL_SIM_PROGRESS_H
#define SL_SIM_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct sl_progress {
    FILE *out;
    bool live; /* out is a terminal */
    bool quiet;
    uint32_t rounds;
    double started_s; /* monotonic */
    double *accuracy; /* of the rounds that were evaluated; owned */
    double *at_round;
    size_t n, cap;
    json_t *end; /* the run_end line; owned */
    bool line_open;
};

void sl_progress_init(struct sl_progress *p, FILE *out, bool quiet, uint32_t rounds);
void sl_progress_deinit(struct sl_progress *p);

/* One line of the report. */
void sl_progress_line(struct sl_progress *p, const json_t *line);

/* Accuracy, digest, bytes, time, where things lie, learning curve. Paths may be NULL. */
void sl_progress_summary(struct sl_progress *p, double virtual_s, const char *report,
                         const char *model);

#endif
