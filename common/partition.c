/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind fills owner[sample]; one counting pass then makes the lists, which come out sorted.
 * Streams: round = attempt, step = class or stage, tensor = kind. */
#include "common/partition.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/dataset.h"
#include "common/fdmath.h"
#include "common/index_file.h"
#include "common/mem.h"
#include "common/rng.h"

#define NOBODY UINT32_MAX
#define SHARES_MAX 20000000 /* numbers drawn in all attempts: some seconds */

struct maker {
    const struct sl_plan_partition *how;
    const struct sl_partition_input *in;
    uint32_t clients;
    uint32_t *owner; /* [n] */
    uint32_t *order; /* [n] a permutation of the samples */
    size_t *size;    /* [clients] */
};

struct kind_ops {
    const char *name;
    bool needs_labels;
    enum sl_code (*assign)(struct maker *m, struct sl_err *err);
};

void sl_partition_deinit(struct sl_partition *p)
{
    if (p == NULL)
        return;
    free(p->offset);
    free(p->index);
    *p = (struct sl_partition){0};
}

static struct sl_rng stream(const struct maker *m, uint32_t attempt, uint32_t stage)
{
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = m->in->seed,
                                        .purpose = SL_RNG_PARTITION,
                                        .round = attempt,
                                        .step = stage,
                                        .tensor = (uint32_t)m->how->kind});
    return r;
}

/* --- shared steps ------------------------------------------------------------------------- */

/* order = the samples in random order */
static void shuffle_samples(struct maker *m, uint32_t stage)
{
    for (size_t i = 0; i < m->in->n; i++)
        m->order[i] = (uint32_t)i;
    struct sl_rng r = stream(m, 0, stage);
    sl_rng_shuffle_u32(&r, m->order, m->in->n);
}

/* order = the samples by label, ascending within a label; ret_start[c] is where label c begins,
 * ret_start[n_classes] = n */
static void sort_by_label(struct maker *m, size_t *ret_start)
{
    const struct sl_partition_input *in = m->in;
    memset(ret_start, 0, (in->n_classes + (size_t)1) * sizeof(*ret_start));
    for (size_t i = 0; i < in->n; i++)
        ret_start[in->labels[i] + 1]++;
    for (uint32_t c = 0; c < in->n_classes; c++)
        ret_start[c + 1] += ret_start[c];
    for (size_t i = 0; i < in->n; i++)
        m->order[ret_start[in->labels[i]]++] = (uint32_t)i;
    memmove(ret_start + 1, ret_start, in->n_classes * sizeof(*ret_start));
    ret_start[0] = 0;
}

static size_t *new_label_starts(const struct maker *m, struct sl_err *err)
{
    size_t *start = sl_calloc(m->in->n_classes + (size_t)1, sizeof(*start));
    if (start == NULL)
        sl_err_set(err, SL_E_NOMEM, "partition: %" PRIu32 " classes", m->in->n_classes);
    return start;
}

/* Part i of n cut into k parts whose sizes differ by at most one. */
static size_t equal_part(size_t n, size_t k, size_t i)
{
    return n / k + (i < n % k);
}

/* Cuts n into k parts in proportion to weight[]: part i ends at floor(n * (w_0 + ... + w_i) / w).
 * Adds part i to size[i]; the parts sum to n. */
static void add_parts(size_t n, const double *weight, size_t k, size_t *size)
{
    double total = 0, sum = 0;
    for (size_t i = 0; i < k; i++)
        total += weight[i];
    size_t before = 0;
    for (size_t i = 0; i < k; i++) {
        sum += weight[i];
        double cut = (double)n * (sum / total);
        size_t end = i + 1 == k || cut >= (double)n ? n : (size_t)cut;
        size[i] += end - before;
        before = end;
    }
}

/* The next size[k] samples of order for each client k. */
static void deal(struct maker *m)
{
    size_t at = 0;
    for (uint32_t k = 0; k < m->clients; k++)
        for (size_t i = 0; i < m->size[k]; i++)
            m->owner[m->order[at++]] = k;
}

/* --- kinds -------------------------------------------------------------------------------- */

static enum sl_code assign_iid(struct maker *m, struct sl_err *err)
{
    shuffle_samples(m, 0);
    for (uint32_t k = 0; k < m->clients; k++)
        m->size[k] = equal_part(m->in->n, m->clients, k);
    deal(m);
    return SL_OK;
}

/* Sizes of one attempt; true when every client has enough. */
static bool try_dirichlet(struct maker *m, uint32_t attempt, size_t least,
                          const size_t *start, double *share)
{
    memset(m->size, 0, m->clients * sizeof(*m->size));
    for (uint32_t c = 0; c < m->in->n_classes; c++) {
        struct sl_rng r = stream(m, attempt, c);
        sl_rng_dirichlet(&r, m->how->alpha, share, m->clients);
        add_parts(start[c + 1] - start[c], share, m->clients, m->size);
    }
    for (uint32_t k = 0; k < m->clients; k++)
        if (m->size[k] < least)
            return false;
    return true;
}

/* Deals the samples of each class by the shares of the attempt that was accepted. */
static void deal_dirichlet(struct maker *m, uint32_t attempt, const size_t *start,
                           double *share)
{
    for (uint32_t c = 0; c < m->in->n_classes; c++) {
        struct sl_rng r = stream(m, attempt, c);
        sl_rng_dirichlet(&r, m->how->alpha, share, m->clients);
        memset(m->size, 0, m->clients * sizeof(*m->size));
        add_parts(start[c + 1] - start[c], share, m->clients, m->size);
        uint32_t *samples = m->order + start[c];
        sl_rng_shuffle_u32(&r, samples, start[c + 1] - start[c]);
        for (uint32_t k = 0; k < m->clients; k++)
            for (size_t i = 0; i < m->size[k]; i++)
                m->owner[*samples++] = k;
    }
}

/* SL_PARTITION_ATTEMPTS, fewer when an attempt draws very many numbers */
static uint32_t allowed_attempts(const struct maker *m)
{
    uint64_t draws = (uint64_t)m->clients * m->in->n_classes;
    uint64_t attempts = SHARES_MAX / draws;
    if (attempts < 10)
        return 10;
    return attempts < SL_PARTITION_ATTEMPTS ? (uint32_t)attempts : SL_PARTITION_ATTEMPTS;
}

static enum sl_code assign_dirichlet(struct maker *m, struct sl_err *err)
{
    const struct sl_plan_partition *how = m->how;
    size_t least = how->min_size > 1 ? how->min_size : 1;
    if (!(how->alpha > 0) || how->alpha > 1e12)
        return sl_err_set(err, SL_E_RANGE, "partition: alpha %g (above 0, at most 1e12)",
                          how->alpha);
    if (least > m->in->n / m->clients)
        return sl_err_set(err, SL_E_RANGE,
                          "partition: %" PRIu32
                          " clients of at least %zu samples, but there "
                          "are %zu samples",
                          m->clients, least, m->in->n);
    size_t *start = new_label_starts(m, err);
    double *share = sl_calloc(m->clients, sizeof(*share));
    enum sl_code rc = SL_OK;
    if (start == NULL || share == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "partition: shares of %" PRIu32 " clients",
                        m->clients);
    if (rc == SL_OK) {
        sort_by_label(m, start);
        uint32_t attempt = 0, allowed = allowed_attempts(m);
        while (attempt < allowed && !try_dirichlet(m, attempt, least, start, share))
            attempt++;
        if (attempt < allowed)
            deal_dirichlet(m, attempt, start, share);
        else
            rc = sl_err_set(err, SL_E_FAILED,
                            "partition: none of %" PRIu32
                            " Dirichlet draws with alpha %g gave each of "
                            "%" PRIu32
                            " clients %zu samples (raise alpha, or lower clients or "
                            "min_size)",
                            allowed, how->alpha, m->clients, least);
    }
    free(start);
    free(share);
    return rc;
}

static enum sl_code assign_shards(struct maker *m, struct sl_err *err)
{
    size_t per_client = m->how->shards_per_client, shards;
    if (per_client == 0 || !sl_size_mul(per_client, m->clients, &shards) ||
        shards > m->in->n)
        return sl_err_set(err, SL_E_RANGE,
                          "partition: %" PRIu32
                          " clients of %zu shards, but there are %zu "
                          "samples (1 or more samples a shard)",
                          m->clients, per_client, m->in->n);
    size_t *start = new_label_starts(m, err);
    uint32_t *place = sl_calloc(shards, sizeof(*place));
    enum sl_code rc = SL_OK;
    if (start == NULL || place == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "partition: %zu shards", shards);
    if (rc == SL_OK) {
        sort_by_label(m, start);
        for (size_t s = 0; s < shards; s++)
            place[s] = (uint32_t)s;
        struct sl_rng r = stream(m, 0, 0);
        sl_rng_shuffle_u32(&r, place, shards);
        size_t at = 0;
        for (size_t s = 0; s < shards; s++)
            for (size_t i = equal_part(m->in->n, shards, s); i > 0; i--)
                m->owner[m->order[at++]] = (uint32_t)(place[s] / per_client);
    }
    free(start);
    free(place);
    return rc;
}

/* The main-label samples of each client; start[c] moves on to what is left of label c. */
static void deal_majority(struct maker *m, size_t *start, const size_t *end,
                          const uint32_t *main_label)
{
    for (uint32_t k = 0; k < m->clients; k++) {
        uint32_t c = main_label[k % m->in->n_classes];
        size_t size = equal_part(m->in->n, m->clients, k);
        size_t most = (size_t)(m->how->share * (double)size + 0.5);
        size_t left = end[c] - start[c];
        size_t n = most < left ? most : left;
        for (size_t i = 0; i < n; i++)
            m->owner[m->order[start[c]++]] = k;
        m->size[k] = size - n;
    }
}

static enum sl_code assign_majority(struct maker *m, struct sl_err *err)
{
    if (!(m->how->share >= 0 && m->how->share <= 1))
        return sl_err_set(err, SL_E_RANGE, "partition: share %g (0 to 1)", m->how->share);
    uint32_t n_classes = m->in->n_classes;
    size_t *start = new_label_starts(m, err), *end = new_label_starts(m, err);
    uint32_t *main_label = sl_calloc(n_classes, sizeof(*main_label));
    enum sl_code rc = SL_OK;
    if (start == NULL || end == NULL || main_label == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "partition: %" PRIu32 " classes", n_classes);
    if (rc == SL_OK) {
        sort_by_label(m, start);
        memcpy(end, start + 1, n_classes * sizeof(*end));
        struct sl_rng r = stream(m, 0, 0);
        for (uint32_t c = 0; c < n_classes; c++) {
            main_label[c] = c;
            sl_rng_shuffle_u32(&r, m->order + start[c], end[c] - start[c]);
        }
        sl_rng_shuffle_u32(&r, main_label, n_classes);
        deal_majority(m, start, end, main_label);
        size_t rest = 0;
        for (size_t i = 0; i < m->in->n; i++)
            if (m->owner[i] == NOBODY)
                m->order[rest++] = (uint32_t)i;
        sl_rng_shuffle_u32(&r, m->order, rest);
        deal(m);
    }
    free(start);
    free(end);
    free(main_label);
    return rc;
}

static enum sl_code assign_quantity(struct maker *m, struct sl_err *err)
{
    double exponent = m->how->exponent;
    if (!(exponent >= 0 && exponent <= 100))
        return sl_err_set(err, SL_E_RANGE, "partition: exponent %g (0 to 100)", exponent);
    double *weight = sl_calloc(m->clients, sizeof(*weight));
    uint32_t *rank = sl_calloc(m->clients, sizeof(*rank));
    enum sl_code rc = SL_OK;
    if (weight == NULL || rank == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "partition: %" PRIu32 " clients", m->clients);
    if (rc == SL_OK) {
        for (uint32_t k = 0; k < m->clients; k++) {
            rank[k] = k + 1;
            m->size[k] = 1;
        }
        struct sl_rng r = stream(m, 0, 1);
        sl_rng_shuffle_u32(&r, rank, m->clients);
        for (uint32_t k = 0; k < m->clients; k++)
            weight[k] = sl_pow(rank[k], -exponent);
        add_parts(m->in->n - m->clients, weight, m->clients, m->size);
        shuffle_samples(m, 0);
        deal(m);
    }
    free(weight);
    free(rank);
    return rc;
}

/* Clients of the table take their rows. */
static enum sl_code take_rows(struct maker *m, const struct sl_index_table *t,
                              struct sl_err *err)
{
    const char *path = m->how->path;
    for (size_t r = 0; r < t->n_rows; r++) {
        if (t->id[r] != r)
            return sl_err_set(err, SL_E_INPUT,
                              "%s: client %zu has no line (clients 0 to %" PRIu32
                              " have one each)",
                              path, r, m->clients - 1);
        for (size_t i = t->offset[r]; i < t->offset[r + 1]; i++) {
            uint32_t sample = t->value[i];
            if (sample >= m->in->n)
                return sl_err_set(err, SL_E_RANGE,
                                  "%s: client %zu: sample %" PRIu32 " (0 to %zu)", path,
                                  r, sample, m->in->n - 1);
            if (m->owner[sample] != NOBODY)
                return sl_err_set(err, SL_E_INPUT,
                                  "%s: sample %" PRIu32
                                  " of client %zu belongs to client "
                                  "%" PRIu32 " already",
                                  path, sample, r, m->owner[sample]);
            m->owner[sample] = (uint32_t)r;
        }
    }
    return SL_OK;
}

static enum sl_code assign_file(struct maker *m, struct sl_err *err)
{
    struct sl_index_table t = {0};
    enum sl_code rc = sl_index_load(SL_INDEX_PARTITION, m->how->path, &t, err);
    if (rc != SL_OK)
        return rc;
    if (m->clients == 0)
        m->clients = (uint32_t)t.n_rows;
    if (t.n_rows != m->clients)
        rc = sl_err_set(err, SL_E_INPUT, "%s: %zu clients, but the plan has %" PRIu32,
                        m->how->path, t.n_rows, m->clients);
    else
        rc = take_rows(m, &t, err);
    sl_index_table_deinit(&t);
    return rc;
}

static const struct kind_ops kinds[] = {
    [SL_PARTITION_IID] = {"iid", false, assign_iid},
    [SL_PARTITION_DIRICHLET] = {"dirichlet", true, assign_dirichlet},
    [SL_PARTITION_SHARDS] = {"shards", true, assign_shards},
    [SL_PARTITION_MAJORITY] = {"majority", true, assign_majority},
    [SL_PARTITION_QUANTITY] = {"quantity", false, assign_quantity},
    [SL_PARTITION_FILE] = {"file", false, assign_file},
};

/* --- frame -------------------------------------------------------------------------------- */

static enum sl_code check_input(const struct kind_ops *kind, const struct maker *m,
                                struct sl_err *err)
{
    const struct sl_partition_input *in = m->in;
    bool from_file = m->how->kind == SL_PARTITION_FILE;
    if (in->n == 0 || in->n > SL_DATASET_SAMPLES_MAX)
        return sl_err_set(err, SL_E_RANGE, "partition: %zu samples (1 to %zu)", in->n,
                          SL_DATASET_SAMPLES_MAX);
    if (m->clients > SL_CLIENTS_MAX || (m->clients == 0 && !from_file))
        return sl_err_set(err, SL_E_RANGE, "partition: %" PRIu32 " clients (1 to %d)",
                          m->clients, SL_CLIENTS_MAX);
    if (m->clients > in->n)
        return sl_err_set(err, SL_E_RANGE,
                          "partition: %" PRIu32
                          " clients, but there are %zu samples (1 or "
                          "more a client)",
                          m->clients, in->n);
    if (!kind->needs_labels)
        return SL_OK;
    if (in->labels == NULL || in->n_classes == 0)
        return sl_err_set(err, SL_E_INPUT, "partition: kind %s without labels",
                          kind->name);
    for (size_t i = 0; i < in->n; i++)
        if (in->labels[i] < 0 || (uint32_t)in->labels[i] >= in->n_classes)
            return sl_err_set(err, SL_E_RANGE,
                              "partition: sample %zu: label %" PRId32 " (0 to %" PRIu32
                              ")",
                              i, in->labels[i], in->n_classes - 1);
    return SL_OK;
}

static enum sl_code collect(const struct maker *m, struct sl_partition *p,
                            struct sl_err *err)
{
    p->clients = m->clients;
    p->offset = sl_calloc(m->clients + (size_t)2, sizeof(*p->offset));
    p->index = sl_calloc(m->in->n, sizeof(*p->index));
    if (p->offset == NULL || p->index == NULL)
        return sl_err_set(err, SL_E_NOMEM, "partition: %zu samples", m->in->n);
    /* offset[k + 2] counts, then offset[k + 1] is where client k's next sample goes */
    for (size_t i = 0; i < m->in->n; i++)
        if (m->owner[i] != NOBODY)
            p->offset[m->owner[i] + (size_t)2]++;
    for (uint32_t k = 0; k < m->clients; k++)
        p->offset[k + 2] += p->offset[k + 1];
    for (size_t i = 0; i < m->in->n; i++)
        if (m->owner[i] != NOBODY)
            p->index[p->offset[m->owner[i] + (size_t)1]++] = (uint32_t)i;
    return SL_OK;
}

enum sl_code sl_partition_make(const struct sl_plan_partition *how,
                               const struct sl_partition_input *in,
                               struct sl_partition *ret, struct sl_err *err)
{
    assert((size_t)how->kind < sizeof(kinds) / sizeof(kinds[0]));
    const struct kind_ops *kind = &kinds[how->kind];
    struct maker m = {.how = how, .in = in, .clients = how->clients};
    struct sl_partition p = {0};
    enum sl_code rc = check_input(kind, &m, err);
    if (rc != SL_OK)
        return rc;
    m.owner = sl_calloc(in->n, sizeof(*m.owner));
    m.order = sl_calloc(in->n, sizeof(*m.order));
    m.size = sl_calloc(m.clients, sizeof(*m.size));
    if (m.owner == NULL || m.order == NULL || m.size == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "partition: %zu samples", in->n);
    if (rc == SL_OK) {
        memset(m.owner, 0xff, in->n * sizeof(*m.owner)); /* NOBODY */
        rc = kind->assign(&m, err);
    }
    if (rc == SL_OK)
        rc = collect(&m, &p, err);
    free(m.owner);
    free(m.order);
    free(m.size);
    if (rc != SL_OK)
        sl_partition_deinit(&p);
    else
        *ret = p;
    return rc;
}

void sl_partition_histogram(const struct sl_partition *p, const int32_t *labels,
                            uint32_t client, uint32_t n_classes, uint32_t *ret_counts)
{
    size_t n;
    const uint32_t *index = sl_partition_client(p, client, &n);
    memset(ret_counts, 0, n_classes * sizeof(*ret_counts));
    for (size_t i = 0; i < n; i++)
        ret_counts[labels[index[i]]]++;
}

static int ascending(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

void sl_holdout_split(const uint32_t *index, size_t n, double share, uint64_t seed,
                      uint32_t client, uint32_t *ret_index, size_t *ret_n_train)
{
    assert(n >= 1 && share >= 0 && share <= 1);
    size_t held = (size_t)(share * (double)n + 0.5);
    if (held > n - 1)
        held = n - 1;
    size_t n_train = n - held;
    memmove(ret_index, index, n * sizeof(*index));
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){
                        .seed = seed, .purpose = SL_RNG_HOLDOUT, .client = client});
    if (held > 0) {
        sl_rng_shuffle_u32(&r, ret_index, n);
        qsort(ret_index, n_train, sizeof(*ret_index), ascending);
        qsort(ret_index + n_train, held, sizeof(*ret_index), ascending);
    }
    *ret_n_train = n_train;
}
