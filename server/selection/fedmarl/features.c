/* SPDX-License-Identifier: Apache-2.0 */
#include "server/selection/fedmarl/features.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/fdmath.h"

#define LN2 0x1.62e42fefa39efp-1

uint32_t sl_fedmarl_n_inputs(const struct sl_fedmarl_spec *s)
{
    return 4 + s->n_probe + s->n_upload + 1 + (s->gate ? 2 : 0);
}

double sl_fedmarl_loss_scale_ce(uint32_t classes)
{
    assert(classes >= 2);
    return sl_log(classes);
}

double sl_fedmarl_loss_scale_sphere(uint32_t classes, uint32_t width)
{
    assert(width >= 1);
    double scale = 1 + (double)classes / width;
    return scale < 4 ? scale : 4;
}

static float scaled(double x)
{
    if (isnan(x))
        return 0;
    if (x > SL_FEDMARL_CLAMP)
        return (float)SL_FEDMARL_CLAMP;
    return (float)(x < -SL_FEDMARL_CLAMP ? -SL_FEDMARL_CLAMP : x);
}

static bool counts(double seconds)
{
    return isfinite(seconds) && seconds >= 0;
}

/* log2 of times over their unit; no time at all is as short as can be. */
static float scaled_time(double s, double unit_s)
{
    return s > 0 ? scaled(sl_log(s / unit_s) / LN2) : (float)-SL_FEDMARL_CLAMP;
}

/* Writes `wanted` times, the newest first. */
static float *history(const double *s, uint32_t n, uint32_t wanted, double population_s,
                      double unit_s, float *ret)
{
    double sum = 0;
    uint32_t known = 0;
    for (uint32_t i = 0; i < n; i++)
        if (counts(s[i])) {
            sum += s[i];
            known++;
        }
    double fill = known > 0 ? sum / known : population_s;
    for (uint32_t i = 0; i < wanted; i++)
        *ret++ = scaled_time(i < n && counts(s[i]) ? s[i] : fill, unit_s);
    return ret;
}

static double log_share(uint64_t x, uint64_t of)
{
    if (x < 1 || of < 2)
        return 1;
    return sl_log((double)x) / sl_log((double)of);
}

static void row_features(const struct sl_fedmarl_spec *s, const struct sl_round_facts *r,
                         const struct sl_client_facts *f, float *ret)
{
    double unit_s = r->median_probe_s > 0 ? r->median_probe_s : 1;
    double probe_s = r->mean_probe_s > 0 ? r->mean_probe_s : unit_s;
    double upload_s = r->mean_upload_s > 0 ? r->mean_upload_s : unit_s;
    *ret++ = scaled(f->probe_loss / r->loss_scale);
    ret = history(f->probe_s, f->n_probe, s->n_probe, probe_s, unit_s, ret);
    ret = history(f->upload_s, f->n_upload, s->n_upload, upload_s, unit_s, ret);
    *ret++ = scaled(r->full_bytes > 0 ? (double)f->upload_bytes / (double)r->full_bytes : 1);
    *ret++ = scaled(log_share(f->samples, r->max_samples));
    *ret++ = scaled((double)r->round / r->rounds);
    *ret++ = f->n_upload > 0 ? 1 : 0;
    if (s->gate) {
        *ret++ = scaled(f->message_age / r->rounds);
        *ret = f->message_valid ? 1 : 0;
    }
}

void sl_fedmarl_features(const struct sl_fedmarl_spec *s, const struct sl_round_facts *round,
                         const struct sl_client_facts *rows, size_t n, float *ret)
{
    uint32_t width = sl_fedmarl_n_inputs(s);
    assert(round->rounds >= 1 && round->loss_scale > 0);
    for (size_t i = 0; i < n; i++)
        row_features(s, round, &rows[i], ret + i * width);
}

void sl_fedmarl_times_add(struct sl_fedmarl_times *t, double seconds)
{
    if (!counts(seconds))
        return;
    t->s[t->next] = seconds;
    t->next = (t->next + 1) % SL_FEDMARL_TIMES;
    if (t->n < SL_FEDMARL_TIMES)
        t->n++;
}

static int ascending(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

double sl_fedmarl_times_median(const struct sl_fedmarl_times *t)
{
    double sorted[SL_FEDMARL_TIMES];
    if (t->n == 0)
        return 0;
    memcpy(sorted, t->s, t->n * sizeof(sorted[0]));
    qsort(sorted, t->n, sizeof(sorted[0]), ascending);
    return sorted[(t->n - 1) / 2];
}

double sl_fedmarl_times_mean(const struct sl_fedmarl_times *t)
{
    double sum = 0;
    for (uint32_t i = 0; i < t->n; i++)
        sum += t->s[i];
    return t->n > 0 ? sum / t->n : 0;
}
