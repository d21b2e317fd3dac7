/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/partitions.h"

#include <stdlib.h>

#include "common/fdmath.h"
#include "common/mem.h"
#include "common/rng.h"

#define SIZE_LEAST 50.0
#define SIZE_MOST 2000.0
#define SIZE_EXPONENT 1.75
#define MAJORITY 0.8

/* What a majority partition is made from. */
struct maker {
    const struct sl_dataset *set;
    uint32_t n, clients, number;
    uint64_t seed;
};

static void draw(const struct maker *m, uint32_t client, uint32_t what, struct sl_rng *ret)
{
    sl_rng_init(ret, &(struct sl_rng_id){.seed = m->seed,
                                         .purpose = SL_RNG_AGENT,
                                         .client = client,
                                         .round = m->number,
                                         .step = what,
                                         .tensor = 10});
}

/* Samples by label: at[label] .. at[label + 1] of index, shuffled. */
struct by_label {
    uint32_t *index;
    size_t *at;
};

static bool sort_by_label(const struct maker *m, struct by_label *ret)
{
    struct sl_rng rng;
    draw(m, 0, 1, &rng);
    const uint32_t n_classes = m->set->n_classes;
    const int32_t *labels = m->set->labels;
    ret->index = sl_calloc(m->n, sizeof(*ret->index));
    ret->at = sl_calloc((size_t)n_classes + 2, sizeof(*ret->at));
    if (ret->index == NULL || ret->at == NULL)
        return false;
    for (uint32_t i = 0; i < m->n; i++)
        ret->at[labels[i] + 2]++;
    for (uint32_t c = 0; c < n_classes; c++)
        ret->at[c + 2] += ret->at[c + 1];
    for (uint32_t i = 0; i < m->n; i++)
        ret->index[ret->at[labels[i] + 1]++] = i;
    for (uint32_t c = 0; c < n_classes; c++)
        sl_rng_shuffle_u32(&rng, ret->index + ret->at[c], ret->at[c + 1] - ret->at[c]);
    return true;
}

/* x of density x^-a on [SIZE_LEAST, SIZE_MOST], by its inverse distribution. */
static uint32_t power_law_size(struct sl_rng *rng)
{
    const double b = 1 - SIZE_EXPONENT;
    double lo = sl_pow(SIZE_LEAST, b), hi = sl_pow(SIZE_MOST, b);
    return (uint32_t)sl_pow(lo + (hi - lo) * sl_rng_f64(rng), 1 / b);
}

/* Writes a client's samples: neighbours in the shuffled list of a label, from a place at random. */
static size_t take(const struct by_label *l, uint32_t label, size_t n, struct sl_rng *rng,
                   uint32_t *ret)
{
    size_t have = l->at[label + 1] - l->at[label];
    if (n > have)
        n = have;
    size_t from = have > 0 ? sl_rng_below(rng, have) : 0;
    for (size_t i = 0; i < n; i++)
        ret[i] = l->index[l->at[label] + (from + i) % have];
    return n;
}

static size_t take_client(const struct maker *m, const struct by_label *l, uint32_t client,
                          uint32_t *ret)
{
    const uint32_t n_classes = m->set->n_classes;
    struct sl_rng rng;
    draw(m, client, 2, &rng);
    const size_t size = power_law_size(&rng);
    const uint32_t main = (uint32_t)sl_rng_below(&rng, n_classes);
    const size_t others = (size_t)((1 - MAJORITY) * (double)size) / (n_classes - 1);
    size_t n = 0;
    for (uint32_t label = 0; label < n_classes; label++)
        n += take(l, label, label == main ? size - others * (n_classes - 1) : others, &rng,
                  ret + n);
    return n;
}

static enum sl_code majority(const struct maker *m, struct sl_partition *ret, struct sl_err *err)
{
    const size_t most = (size_t)SIZE_MOST + m->set->n_classes;
    struct by_label labels = {0};
    struct sl_partition p = {.clients = m->clients};
    p.offset = sl_calloc((size_t)m->clients + 1, sizeof(*p.offset));
    p.index = sl_calloc(m->clients, most * sizeof(*p.index));
    bool ok = sort_by_label(m, &labels) && p.offset != NULL && p.index != NULL;
    for (uint32_t c = 0; ok && c < m->clients; c++)
        p.offset[c + 1] = p.offset[c] + take_client(m, &labels, c, p.index + p.offset[c]);
    free(labels.index);
    free(labels.at);
    if (!ok) {
        sl_partition_deinit(&p);
        return sl_err_set(err, SL_E_NOMEM, "partition of %u clients", m->clients);
    }
    *ret = p;
    return SL_OK;
}

enum sl_code sl_policy_partition_make(enum sl_policy_partition kind, const struct sl_dataset *set,
                                      uint32_t n, uint32_t clients, uint64_t seed, uint32_t number,
                                      struct sl_partition *ret, struct sl_err *err)
{
    const struct maker m = {
        .set = set, .n = n, .clients = clients, .number = number, .seed = seed};
    if (kind == SL_POLICY_MAJORITY)
        return majority(&m, ret, err);
    const struct sl_plan_partition how = {.kind = SL_PARTITION_DIRICHLET,
                                          .clients = clients,
                                          .alpha = kind == SL_POLICY_DIRICHLET_01 ? 0.1 : 0.3,
                                          .min_size = 10};
    const struct sl_partition_input in = {
        .labels = set->labels, .n = n, .n_classes = set->n_classes, .seed = seed + number};
    return sl_partition_make(&how, &in, ret, err);
}
