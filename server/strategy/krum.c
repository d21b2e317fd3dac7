/* SPDX-License-Identifier: Apache-2.0 */
/* Krum and multi-Krum, Blanchard et al. 2017, section 4: an update's score is the sum of its squared
 * distances to the k - f - 2 nearest others. Krum takes the update of the lowest score, multi-Krum
 * averages the m of the lowest; ties go to the lower index. Weights play no part. */
#include <stdlib.h>

#include "server/strategy/strategy.h"

static size_t least(const struct sl_plan *plan)
{
    return (size_t)plan->strategy.f + 3;
}

static size_t least_multi(const struct sl_plan *plan)
{
    size_t m = plan->strategy.m;
    return m > least(plan) ? m : least(plan);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double score(const double *square, size_t k, size_t i, size_t n_near, double *near)
{
    double sum = 0;
    size_t n = 0;
    for (size_t j = 0; j < k; j++)
        if (j != i)
            near[n++] = square[i * k + j];
    qsort(near, n, sizeof(*near), ascending);
    for (size_t j = 0; j < n_near; j++)
        sum += near[j];
    return sum;
}

/* The m best get 1 / m each. ret holds the scores of those not taken, until the end. */
static void choose_best(const struct sl_plan *plan, const double *square, size_t k, size_t m,
                        double *scratch, double *ret)
{
    size_t n_near = k - plan->strategy.f - 2;
    for (size_t i = 0; i < k; i++)
        ret[i] = score(square, k, i, n_near, scratch);
    for (size_t taken = 0; taken < m; taken++) {
        size_t best = k;
        for (size_t i = 0; i < k; i++)
            if (ret[i] >= 0 && (best == k || ret[i] < ret[best]))
                best = i;
        ret[best] = -1;
    }
    for (size_t i = 0; i < k; i++)
        ret[i] = ret[i] < 0 ? 1.0 / (double)m : 0;
}

static void choose(const struct sl_plan *plan, const double *square, const double *weight, size_t k,
                   double *scratch, double *ret)
{
    (void)weight;
    choose_best(plan, square, k, 1, scratch, ret);
}

static void choose_multi(const struct sl_plan *plan, const double *square, const double *weight,
                         size_t k, double *scratch, double *ret)
{
    size_t m = plan->strategy.m == 0 ? k - plan->strategy.f : plan->strategy.m;
    (void)weight;
    choose_best(plan, square, k, m, scratch, ret);
}

const struct sl_rule sl_rule_krum = {.name = "krum", .least = least, .choose = choose};
const struct sl_rule sl_rule_multi_krum = {
    .name = "multi-krum", .least = least_multi, .choose = choose_multi};

const struct sl_strategy_ops sl_strategy_krum = {.name = "krum",
                                                 .vectors = 1,
                                                 .scale = sl_strategy_scale_one,
                                                 .step = sl_strategy_step_mean,
                                                 .rule = &sl_rule_krum};
const struct sl_strategy_ops sl_strategy_multi_krum = {.name = "multi-krum",
                                                       .vectors = 1,
                                                       .scale = sl_strategy_scale_one,
                                                       .step = sl_strategy_step_mean,
                                                       .rule = &sl_rule_multi_krum};
