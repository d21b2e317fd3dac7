/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/tmc_loss.h"

#include "common/fdmath.h"

#define LAGS 3
#define TINY 1e-6
#define STEEP 25.0
#define DIVISOR 192.0

static const double beta[LAGS] = {1.5, 1.0, 0.5};

size_t sl_tmc_played(const struct sl_tmc_batch_shape *b)
{
    size_t n = 0;
    for (size_t e = 0; e < b->episodes; e++)
        n += b->lengths[e];
    return n;
}

static size_t row_of(const struct sl_tmc_batch_shape *b, size_t t, size_t e, size_t n)
{
    return (t * b->episodes + e) * b->agents + n;
}

/* --- smooth messages -------------------------------------------------------------- */

/* m and dm point at an agent's message of step t; `back` floats before lies the one of the step
 * before. weight sum_i beta_i |m - m_i|^2. */
static double smooth_row(const float *m, float *dm, size_t a, size_t back, size_t lags,
                         double weight)
{
    double sum = 0;
    for (size_t i = 1; i <= lags; i++)
        for (size_t k = 0; k < a; k++) {
            double d = (double)m[k] - (double)*(m + k - i * back);
            sum += beta[i - 1] * d * d;
            dm[k] += (float)(2 * weight * beta[i - 1] * d);
            *(dm + k - i * back) -= (float)(2 * weight * beta[i - 1] * d);
        }
    return weight * sum;
}

/* |m^t|^2 over all that play at step t, and how many episodes do. */
static double square_of_step(const struct sl_tmc_batch_shape *b, size_t t, const float *m,
                             size_t *ret_playing)
{
    double square = TINY;
    size_t playing = 0;
    for (size_t e = 0; e < b->episodes; e++) {
        const float *of = m + row_of(b, t, e, 0) * b->actions;
        if (t >= b->lengths[e])
            continue;
        playing++;
        for (size_t k = 0; k < b->agents * b->actions; k++)
            square += (double)of[k] * (double)of[k];
    }
    *ret_playing = playing;
    return square;
}

static double smooth_step(const struct sl_tmc_batch_shape *b, size_t t, double weight,
                          const float *m, float *dm)
{
    double loss = 0;
    size_t back = b->episodes * b->agents * b->actions, lags = t < LAGS ? t : LAGS;
    for (size_t e = 0; e < b->episodes; e++)
        for (size_t n = 0; t < b->lengths[e] && n < b->agents; n++) {
            size_t at = row_of(b, t, e, n) * b->actions;
            loss += smooth_row(m + at, dm + at, b->actions, back, lags, weight);
        }
    return loss;
}

/* The divisor |m^t|^2 counts in the derivative: loss is that of the step. */
static void through_divisor(const struct sl_tmc_batch_shape *b, size_t t, double loss,
                            double square, const float *m, float *dm)
{
    for (size_t e = 0; e < b->episodes; e++) {
        size_t at = row_of(b, t, e, 0) * b->actions;
        for (size_t k = 0; t < b->lengths[e] && k < b->agents * b->actions; k++)
            dm[at + k] -= (float)(2 * loss / square * (double)m[at + k]);
    }
}

/* From the last step back, since a term of step t stands in the running sums of all later ones. */
double sl_tmc_smooth_loss(const struct sl_tmc_batch_shape *b, enum sl_tmc_form form, double lambda,
                          const float *m, float *dm)
{
    double loss = 0, mean = lambda / (double)sl_tmc_played(b);
    size_t later = 0, playing;
    for (size_t t = b->steps; t-- > 1;) {
        if (form == SL_TMC_FORM_PAPER) {
            loss += smooth_step(b, t, mean, m, dm);
            continue;
        }
        double square = square_of_step(b, t, m, &playing);
        double values = (double)(b->episodes * b->agents * b->actions);
        later += playing;
        double part = smooth_step(
            b, t, mean * (double)later / ((double)(t < LAGS ? t : LAGS) * values * square), m, dm);
        through_divisor(b, t, part, square, m, dm);
        loss += part;
    }
    return loss;
}

/* --- confident actions ------------------------------------------------------------ */

double sl_tmc_gap(const float *q, size_t actions, uint16_t available, uint8_t ret[2])
{
    int best = -1, second = -1;
    for (size_t a = 0; a < actions; a++) {
        if ((available >> a & 1) == 0)
            continue;
        if (best < 0 || q[a] > q[best]) {
            second = best;
            best = (int)a;
        } else if (second < 0 || q[a] > q[second]) {
            second = (int)a;
        }
    }
    if (second < 0)
        return -1;
    ret[0] = (uint8_t)best;
    ret[1] = (uint8_t)second;
    return (double)q[best] - (double)q[second];
}

double sl_tmc_confident_loss(const struct sl_tmc_batch_shape *b, enum sl_tmc_form form,
                             double lambda, const float *q, const uint16_t *available, float *dq)
{
    double loss = 0, mean = lambda / (double)sl_tmc_played(b);
    double code = mean * (double)b->episodes / DIVISOR;
    for (size_t e = 0; e < b->episodes; e++)
        for (size_t t = 0; t < b->lengths[e]; t++)
            for (size_t n = 0; n < b->agents; n++) {
                size_t row = row_of(b, t, e, n), at = row * b->actions;
                uint8_t top[2];
                double gap = sl_tmc_gap(q + at, b->actions,
                                        available == NULL ? UINT16_MAX : available[row], top);
                if (gap < 0)
                    continue;
                double value = form == SL_TMC_FORM_CODE ? code * sl_exp(-STEEP * gap) : -mean * gap;
                double slope = form == SL_TMC_FORM_CODE ? -STEEP * value : -mean;
                loss += value;
                dq[at + top[0]] += (float)slope;
                dq[at + top[1]] -= (float)slope;
            }
    return loss;
}

/* --- values ----------------------------------------------------------------------- */

double sl_tmc_value_loss(const struct sl_tmc_batch_shape *b, const float *q, const uint8_t *actions,
                         const float *y, float *dq)
{
    double loss = 0, mean = 1 / (double)sl_tmc_played(b);
    for (size_t e = 0; e < b->episodes; e++)
        for (size_t t = 0; t < b->lengths[e]; t++) {
            double off = -(double)y[t * b->episodes + e];
            size_t row = row_of(b, t, e, 0);
            for (size_t n = 0; n < b->agents; n++)
                off += (double)q[(row + n) * b->actions + actions[row + n]];
            loss += mean * off * off;
            for (size_t n = 0; n < b->agents; n++)
                dq[(row + n) * b->actions + actions[row + n]] += (float)(2 * mean * off);
        }
    return loss;
}
