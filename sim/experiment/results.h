/* SPDX-License-Identifier: Apache-2.0 */
/* results.h - numbers out of finished cells: samples over seeds, differences of cells
 * that share a seed, curves. `results` is [{cell, result}]. A key names a number in the
 * result; a dot goes one object or element down ("cost.work", "layers.0.w"). Thread: any;
 * owns nothing. */
#ifndef SL_SIM_EXPERIMENT_RESULTS_H
#define SL_SIM_EXPERIMENT_RESULTS_H

#include <jansson.h>
#include <stddef.h>

/* Spread over seeds: sd divides by n - 1; 0 for one value. n 0: nothing finished. */
struct sl_sample {
    size_t n;
    double mean, sd, lo, hi;
};

struct sl_sample sl_results_sample(const json_t *results, const char *part,
                                   const char *setting, const char *key);
/* setting minus reference, over the seeds that both have. */
struct sl_sample sl_results_paired(const json_t *results, const char *part,
                                   const char *setting, const char *reference,
                                   const char *key);
/* Finished cells of a part. */
size_t sl_results_count(const json_t *results, const char *part);
/* The number at `key` of one result; NaN when there is none. */
double sl_result_number(const json_t *result, const char *key);

/* Mean over seeds of the arrays at `key`, element by element, up to the shortest and to
 * `room`; null elements count as NaN. Returns how many. */
size_t sl_results_curve(const json_t *results, const char *part, const char *setting,
                        const char *key, double *ret, size_t room);

/* "86.17 +- 0.21" with `digits` behind the point, scaled by `scale`; "-" for n 0. */
#define SL_SAMPLE_TEXT 64
const char *sl_sample_text(const struct sl_sample *s, double scale, int digits,
                           char ret[SL_SAMPLE_TEXT]);
/* The same with the sign of the mean: "-0.37 +- 0.12". */
const char *sl_difference_text(const struct sl_sample *s, double scale, int digits,
                               char ret[SL_SAMPLE_TEXT]);

#endif
