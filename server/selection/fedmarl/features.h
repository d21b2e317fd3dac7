/* SPDX-License-Identifier: Apache-2.0 */
/* features.h - the state of one agent (Zhang, Lin, Zhang 2022, section 3): what a client's raw facts
 * become before the network sees them. Everything is relative, so that a policy carries over to
 * other models, data and devices:
 *   probe loss / loss scale | log2(probe times / median probe time) | log2(upload times / the same) |
 *   update bytes / model bytes | log samples / log of the most samples | round / rounds |
 *   known: 1 once an upload time is known | with `gate`: age of the telemetry / rounds, valid
 * each clamped to [-SL_FEDMARL_CLAMP, SL_FEDMARL_CLAMP]. Times spread over more than two orders of
 * magnitude (sizes of data times classes of speed): the logarithm keeps those beyond five medians,
 * which make a round slow, apart. Histories have the newest first. Times that
 * are missing are the client's own mean, or for a new client the population's; what is not finite
 * counts as missing. Row i depends on row i and the round alone. Pure; thread: any. */
#ifndef SL_SERVER_FEDMARL_FEATURES_H
#define SL_SERVER_FEDMARL_FEATURES_H

#include <stddef.h>

#include "server/selection/facts.h"

#define SL_FEDMARL_CLAMP 5.0
#define SL_FEDMARL_INPUTS_MAX 23 /* 4 + 8 + 8 + known + 2 of the gate */

struct sl_fedmarl_spec {
    uint32_t n_probe, n_upload; /* lengths of the histories, 1..SL_FACTS_HISTORY each */
    bool gate;                  /* with age and validity of the telemetry */
};

/* 4 + n_probe + n_upload + 1, and 2 more with the gate. */
uint32_t sl_fedmarl_n_inputs(const struct sl_fedmarl_spec *s);

/* ret[n, sl_fedmarl_n_inputs], row-major. */
void sl_fedmarl_features(const struct sl_fedmarl_spec *s, const struct sl_round_facts *round,
                         const struct sl_client_facts *rows, size_t n, float *ret);

/* Loss of a model that knows nothing: ln C of a cross-entropy over C >= 2 classes; of the squared
 * loss over a fixed spherical head of C rows and width d about 1 + C/d, at most 4. */
double sl_fedmarl_loss_scale_ce(uint32_t classes);
double sl_fedmarl_loss_scale_sphere(uint32_t classes, uint32_t width);

/* The last SL_FEDMARL_TIMES times of all clients: their running median and mean, functions of
 * the times and of the order in which they were added. {0} is empty. */
#define SL_FEDMARL_TIMES 256
struct sl_fedmarl_times {
    double s[SL_FEDMARL_TIMES];
    uint32_t n, next;
};
void sl_fedmarl_times_add(struct sl_fedmarl_times *t, double seconds); /* finite, >= 0; else ignored */
double sl_fedmarl_times_median(const struct sl_fedmarl_times *t); /* 0 when empty; lower middle */
double sl_fedmarl_times_mean(const struct sl_fedmarl_times *t);   /* 0 when empty */

#endif
