/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/federation_game.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/train.h"
#include "common/fdmath.h"
#include "common/mem.h"
#include "common/rng.h"
#include "server/selection/fedmarl/features.h"
#include "server/selection/fedmarl/reward.h"

#define CLASSES 4   /* of devices: 1, 2, 4, 8 times */
#define LATE 10     /* rounds of late_accuracy */
#define WIDTH_BYTES 4

enum { DRAW_EPISODE = 1, DRAW_DEVICE, DRAW_COHORT, DRAW_TIMES };

/* What the coordinator would know of a client, and what its device is. */
struct device {
    double speed, uplink; /* classes */
    struct sl_client_facts facts;
};

struct federation_game {
    struct sl_game game;
    const struct sl_policy_plan *plan;
    const struct sl_update_table *table;
    uint32_t first, n_federations;
    struct sl_trainer *trainer;
    uint32_t *holdout;
    /* the episode */
    uint64_t seed;
    const struct sl_federation *f;
    struct device *devices; /* [clients] */
    uint32_t *cohorts;      /* [rounds, N] */
    double *probe_s, *rest_s, *upload_s; /* [rounds, N]; rest without the upload */
    struct sl_fedmarl_times probes, uploads;
    struct sl_fedmarl_reward reward;
    uint32_t round, bucket;
    double accuracy, smoothed, late[LATE];
    float *model, *next;          /* [n_params] */
    struct sl_client_facts *rows; /* [N], of this round */
    struct sl_federation_score score;
    double team, own[SL_GAME_AGENTS_MAX]; /* credit of the last step */
};

static struct federation_game *self(struct sl_game *g)
{
    return (struct federation_game *)g;
}

static const struct federation_game *self_const(const struct sl_game *g)
{
    return (const struct federation_game *)g;
}

static void draw(const struct federation_game *g, uint32_t what, uint32_t client, uint32_t round,
                 struct sl_rng *ret)
{
    sl_rng_init(ret, &(struct sl_rng_id){.seed = g->seed,
                                         .purpose = SL_RNG_AGENT,
                                         .client = client,
                                         .round = round,
                                         .step = what,
                                         .tensor = 20});
}

static double accuracy_of(struct federation_game *g, const float *values)
{
    const struct sl_samples samples = {&g->table->set, g->holdout, g->plan->data.holdout};
    struct sl_eval_result e;
    struct sl_err err;
    /* finite by construction: means of models that were trained and checked */
    enum sl_code rc = sl_evaluate(g->trainer, values, &samples, &e, &err);
    return rc == SL_OK ? (double)e.correct / (double)e.n : 0;
}

/* --- an episode's draws ----------------------------------------------------------------------- */

static void draw_devices(struct federation_game *g)
{
    for (uint32_t c = 0; c < g->f->clients; c++) {
        struct sl_rng rng;
        draw(g, DRAW_DEVICE, c, 0, &rng);
        double speed = (double)(1u << sl_rng_below(&rng, CLASSES));
        double uplink = (double)(1u << sl_rng_below(&rng, CLASSES));
        g->devices[c] = (struct device){
            .speed = speed,
            .uplink = uplink,
            .facts = {.client = c,
                      .reported = true,
                      .samples = g->f->samples[c],
                      .upload_bytes = g->table->n_params * WIDTH_BYTES,
                      .message_valid = true}};
    }
}

static void draw_cohort(struct federation_game *g, uint32_t round, uint32_t *scratch)
{
    const uint32_t n = g->game.n_agents;
    struct sl_rng rng;
    draw(g, DRAW_COHORT, 0, round, &rng);
    for (uint32_t c = 0; c < g->f->clients; c++)
        scratch[c] = c;
    sl_rng_shuffle_u32(&rng, scratch, g->f->clients);
    memcpy(g->cohorts + (size_t)round * n, scratch, n * sizeof(*scratch));
}

static double lognormal(struct sl_rng *rng, double sigma)
{
    return sl_exp(sigma * sl_rng_normal(rng));
}

static void draw_times(struct federation_game *g, uint32_t round, double upload_s)
{
    const uint32_t n = g->game.n_agents;
    for (uint32_t i = 0; i < n; i++) {
        struct sl_rng rng;
        const size_t at = (size_t)round * n + i;
        const uint32_t c = g->cohorts[at];
        const struct device *d = &g->devices[c];
        draw(g, DRAW_TIMES, c, round, &rng);
        double epoch_s = g->f->samples[c] / g->plan->devices.samples_per_s * d->speed *
                         lognormal(&rng, g->plan->devices.sigma);
        g->probe_s[at] = epoch_s;
        g->rest_s[at] = epoch_s * (g->plan->local.epochs - 1);
        g->upload_s[at] = upload_s * d->uplink * lognormal(&rng, g->plan->devices.sigma);
    }
}

static int ascending(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

static double latency(const struct federation_game *g, uint32_t round, const uint8_t *accept)
{
    const uint32_t n = g->game.n_agents;
    const size_t at = (size_t)round * n;
    double rest[SL_GAME_AGENTS_MAX];
    for (uint32_t i = 0; i < n; i++)
        rest[i] = g->rest_s[at + i] + g->upload_s[at + i];
    return sl_fedmarl_latency(g->probe_s + at, rest, accept, n);
}

/* Median over the rounds of what accepting everybody takes. */
static double latency_of_all(const struct federation_game *g, double *scratch)
{
    uint8_t everybody[SL_GAME_AGENTS_MAX];
    memset(everybody, 1, sizeof(everybody));
    for (uint32_t t = 0; t < g->game.max_steps; t++)
        scratch[t] = latency(g, t, everybody);
    qsort(scratch, g->game.max_steps, sizeof(scratch[0]), ascending);
    return scratch[g->game.max_steps / 2];
}

/* --- rounds ----------------------------------------------------------------------------------- */

static void shift_in(double *history, uint32_t *n, double value)
{
    memmove(history + 1, history, (SL_FACTS_HISTORY - 1) * sizeof(history[0]));
    history[0] = value;
    if (*n < SL_FACTS_HISTORY)
        ++*n;
}

/* The round's clients have probed. */
static void probe(struct federation_game *g)
{
    const uint32_t n = g->game.n_agents;
    for (uint32_t i = 0; i < n; i++) {
        const size_t at = (size_t)g->round * n + i;
        struct sl_client_facts *f = &g->devices[g->cohorts[at]].facts;
        shift_in(f->probe_s, &f->n_probe, g->probe_s[at]);
        sl_fedmarl_times_add(&g->probes, g->probe_s[at]);
        f->probe_loss = g->f->probe_loss[(size_t)g->bucket * g->f->clients + f->client];
        g->rows[i] = *f;
    }
}

static void reset(struct sl_game *game, uint64_t seed)
{
    struct federation_game *g = self(game);
    const double *upload_s = g->plan->devices.upload_s;
    struct sl_rng rng;
    g->seed = seed;
    draw(g, DRAW_EPISODE, 0, 0, &rng);
    g->f = &g->table->federations[g->first + sl_rng_below(&rng, g->n_federations)];
    double unit_s = upload_s[0] * sl_pow(upload_s[1] / upload_s[0], sl_rng_f64(&rng));
    draw_devices(g);
    /* the models' buffers are free until the first round: scratch */
    uint32_t *order = (uint32_t *)(void *)g->next;
    for (uint32_t t = 0; t < game->max_steps; t++) {
        draw_cohort(g, t, order);
        draw_times(g, t, unit_s);
    }
    double lengths[10000];
    g->reward = g->plan->reward;
    g->reward.latency_ref_s = latency_of_all(g, lengths);
    g->reward.traffic_ref = game->n_agents;
    g->probes = g->uploads = (struct sl_fedmarl_times){0};
    g->round = 0;
    memcpy(g->model, g->f->model, g->table->n_params * sizeof(float));
    g->accuracy = g->smoothed = g->f->accuracy[0];
    g->bucket = sl_federation_bucket(g->f, g->accuracy);
    g->score = (struct sl_federation_score){.accuracy = g->accuracy};
    probe(g);
}

static uint64_t most_samples(const struct federation_game *g)
{
    uint32_t most = 0;
    for (uint32_t c = 0; c < g->f->clients; c++)
        most = g->f->samples[c] > most ? g->f->samples[c] : most;
    return most;
}

void sl_federation_facts(const struct sl_game *game, struct sl_round_facts *ret_round,
                         const struct sl_client_facts **ret_rows)
{
    const struct federation_game *g = self_const(game);
    *ret_round = (struct sl_round_facts){
        .seed = g->seed,
        .round = g->round,
        .rounds = game->max_steps,
        .epochs = g->plan->local.epochs,
        .probe_epochs = 1,
        .loss_scale = sl_fedmarl_loss_scale_ce(g->table->set.n_classes),
        .median_probe_s = sl_fedmarl_times_median(&g->probes),
        .mean_probe_s = sl_fedmarl_times_mean(&g->probes),
        .mean_upload_s = sl_fedmarl_times_mean(&g->uploads),
        .full_bytes = g->table->n_params * WIDTH_BYTES,
        .max_samples = most_samples(g)};
    *ret_rows = g->rows;
}

static void observe(const struct sl_game *game, float *ret)
{
    const struct federation_game *g = self_const(game);
    struct sl_round_facts round;
    const struct sl_client_facts *rows;
    sl_federation_facts(game, &round, &rows);
    sl_fedmarl_features(&g->plan->features, &round, rows, game->n_agents, ret);
}

/* The mean of the accepted clients' local models, started from the model as it stands: the
 * bucket's model, what local training keeps of the way from there, and the cached updates. Writes
 * `next`; returns its accuracy, and that of the model as it stands when nobody is accepted. */
static double average(struct federation_game *g, const uint8_t *accept)
{
    const uint32_t n = g->game.n_agents;
    const uint32_t *cohort = g->cohorts + (size_t)g->round * n;
    const size_t n_params = g->table->n_params;
    const float *base = g->f->model + (size_t)g->bucket * n_params;
    const float keep = (float)g->plan->federation.keep * g->f->keep[g->bucket];
    double total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += accept[i] ? g->f->samples[cohort[i]] : 0;
    for (size_t v = 0; v < n_params; v++)
        g->next[v] = total > 0 ? base[v] + keep * (g->model[v] - base[v]) : g->model[v];
    if (total == 0)
        return g->accuracy;
    for (uint32_t i = 0; i < n; i++) {
        const float share = (float)(g->f->samples[cohort[i]] / total);
        const float *update =
            g->f->update + ((size_t)g->bucket * g->f->clients + cohort[i]) * n_params;
        for (size_t v = 0; accept[i] && v < n_params; v++)
            g->next[v] += share * update[v];
    }
    return accuracy_of(g, g->next);
}

/* `next` becomes the model. */
static void advance(struct federation_game *g, double accuracy)
{
    float *model = g->next;
    g->next = g->model;
    g->model = model;
    g->accuracy = accuracy;
    /* an unlucky cohort costs accuracy, not what was learned: the next rounds repair it */
    uint32_t reached = sl_federation_bucket(g->f, accuracy);
    g->bucket = reached > g->bucket ? reached : g->bucket;
}

static void remember(struct federation_game *g, const uint8_t *accept)
{
    const uint32_t n = g->game.n_agents;
    for (uint32_t c = 0; c < g->f->clients; c++) {
        g->devices[c].facts.accepted <<= 1;
        g->devices[c].facts.idle_rounds++;
    }
    for (uint32_t i = 0; i < n; i++) {
        const size_t at = (size_t)g->round * n + i;
        struct sl_client_facts *f = &g->devices[g->cohorts[at]].facts;
        if (!accept[i])
            continue;
        f->accepted |= 1;
        f->idle_rounds = 0;
        shift_in(f->upload_s, &f->n_upload, g->upload_s[at]);
        sl_fedmarl_times_add(&g->uploads, g->upload_s[at]);
    }
}

/* Each accepted client's part of the seconds after the decision: the Shapley value of the game whose
 * worth is its slowest member's time (Littlechild, Owen 1973). What the k-th fastest of m adds to the one
 * before it is borne in equal parts by it and all slower ones; the parts sum to the whole. */
static void share_latency(const struct federation_game *g, const uint8_t *actions, double *ret)
{
    const uint32_t n = g->game.n_agents;
    const size_t at = (size_t)g->round * n;
    uint32_t order[SL_GAME_AGENTS_MAX], m = 0;
    double before = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        ret[i] = g->rest_s[at + i] + g->upload_s[at + i];
        if (!actions[i])
            continue;
        uint32_t k = m++;
        for (; k > 0 && ret[order[k - 1]] > ret[i]; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    for (uint32_t k = 0; k < m; k++) {
        const double time_s = ret[order[k]];
        sum += (time_s - before) / (m - k);
        before = time_s;
        ret[order[k]] = sum;
    }
}

/* The team's part. With the discount gamma, the sum of w1 (U_t - U_t-1) is that of (1 - gamma) w1 U_t, whole
 * in the last round, up to what no action changes (Ng, Harada, Russell 1999); and from each U_t goes
 * what everybody together would have reached from the same start: the luck of a cohort, which no
 * action changes either, is gone from the signal. */
static void split(struct federation_game *g, const uint8_t *actions, double reached,
                  double all_reached)
{
    double part_s[SL_GAME_AGENTS_MAX];
    const bool last = g->round + 1 == g->game.max_steps;
    const double weight = last ? 1 : 1 - g->plan->learner.gamma;
    share_latency(g, actions, part_s);
    g->team = weight * g->reward.w1 *
              (sl_fedmarl_utility_of(&g->reward, reached) -
               sl_fedmarl_utility_of(&g->reward, all_reached));
    for (uint32_t i = 0; i < g->game.n_agents; i++)
        g->own[i] = actions[i] ? -g->reward.w2 * part_s[i] / g->reward.latency_ref_s -
                                     g->reward.w3 / g->reward.traffic_ref
                               : 0;
}

static double credit(const struct sl_game *game, double *ret_own)
{
    const struct federation_game *g = self_const(game);
    memcpy(ret_own, g->own, game->n_agents * sizeof(ret_own[0]));
    return g->team;
}

static double step(struct sl_game *game, const uint8_t *actions, bool *ret_done)
{
    struct federation_game *g = self(game);
    const uint32_t n = game->n_agents;
    double before = g->accuracy, smoothed_before = g->smoothed, traffic = 0;
    assert(g->round < game->max_steps);
    for (uint32_t i = 0; i < n; i++)
        traffic += actions[i];
    const double time_s = latency(g, g->round, actions);
    if (g->plan->learner.credit) {
        uint8_t everybody[SL_GAME_AGENTS_MAX];
        memset(everybody, 1, sizeof(everybody));
        double all_reached = average(g, everybody), reached = average(g, actions);
        split(g, actions, reached, all_reached);
        advance(g, reached);
    } else {
        advance(g, average(g, actions));
    }
    g->smoothed = g->plan->smoothing * g->smoothed + (1 - g->plan->smoothing) * g->accuracy;
    remember(g, actions);
    g->score.reward += sl_fedmarl_reward_of(&g->reward, before, g->accuracy, time_s, traffic);
    g->score.latency += time_s / g->reward.latency_ref_s;
    g->score.traffic += traffic / n;
    g->score.accepted += (uint32_t)traffic;
    g->score.accuracy = g->accuracy;
    g->late[g->score.rounds++ % LATE] = g->accuracy;
    double reward =
        sl_fedmarl_reward_of(&g->reward, smoothed_before, g->smoothed, time_s, traffic);
    g->round++;
    *ret_done = g->round == game->max_steps;
    if (!*ret_done)
        probe(g);
    return reward;
}

void sl_federation_score(const struct sl_game *game, struct sl_federation_score *ret)
{
    const struct federation_game *g = self_const(game);
    uint32_t n = g->score.rounds < LATE ? g->score.rounds : LATE;
    *ret = g->score;
    for (uint32_t i = 0; i < n; i++)
        ret->late_accuracy += g->late[i] / n;
}

/* --- lifetime --------------------------------------------------------------------------------- */

static void free_game(struct sl_game *game)
{
    struct federation_game *g = self(game);
    sl_trainer_free(g->trainer);
    free(g->holdout);
    free(g->devices);
    free(g->cohorts);
    free(g->probe_s);
    free(g->rest_s);
    free(g->upload_s);
    free(g->model);
    free(g->next);
    free(g->rows);
    free(g);
}

static const struct sl_game_ops ops = {"federation", reset, observe, step, free_game, credit};

static bool alloc(struct federation_game *g)
{
    const size_t n = g->game.n_agents, cells = g->game.max_steps * n;
    const size_t clients = g->plan->federation.clients, params = g->table->n_params;
    g->holdout = sl_calloc(g->plan->data.holdout, sizeof(*g->holdout));
    g->devices = sl_calloc(clients, sizeof(*g->devices));
    g->cohorts = sl_calloc(cells, sizeof(*g->cohorts));
    g->probe_s = sl_calloc(cells, sizeof(double));
    g->rest_s = sl_calloc(cells, sizeof(double));
    g->upload_s = sl_calloc(cells, sizeof(double));
    g->model = sl_calloc(params, sizeof(float));
    g->next = sl_calloc(params > clients ? params : clients, sizeof(float));
    g->rows = sl_calloc(n, sizeof(*g->rows));
    return g->holdout != NULL && g->devices != NULL && g->cohorts != NULL && g->probe_s != NULL &&
           g->rest_s != NULL && g->upload_s != NULL && g->model != NULL && g->next != NULL &&
           g->rows != NULL;
}

enum sl_code sl_federation_game_new(const struct sl_policy_plan *plan,
                                    const struct sl_update_table *table,
                                    enum sl_federation_part part, struct sl_game **ret,
                                    struct sl_err *err)
{
    const struct sl_trainer_options options = {.max_batch = 256};
    struct federation_game *g = sl_calloc(1, sizeof(*g));
    if (g == NULL)
        return sl_err_set(err, SL_E_NOMEM, "federation game");
    const uint32_t pool = SL_UPDATE_KINDS * plan->federation.pool;
    g->game = (struct sl_game){.ops = &ops,
                               .n_agents = plan->federation.cohort,
                               .n_actions = 2,
                               .n_inputs = sl_fedmarl_n_inputs(&plan->features),
                               .max_steps = plan->federation.rounds};
    g->plan = plan;
    g->table = table;
    g->first = part == SL_FEDERATION_POOL ? 0 : pool;
    g->n_federations = part == SL_FEDERATION_POOL ? pool : table->n_federations - pool;
    enum sl_code rc = SL_OK;
    if (!alloc(g))
        rc = sl_err_set(err, SL_E_NOMEM, "federation game");
    for (uint32_t i = 0; rc == SL_OK && i < plan->data.holdout; i++)
        g->holdout[i] = plan->data.samples + i;
    if (rc == SL_OK)
        rc = sl_trainer_new(table->model, &options, &g->trainer, err);
    if (rc != SL_OK) {
        free_game(&g->game);
        return rc;
    }
    reset(&g->game, 0);
    *ret = &g->game;
    return SL_OK;
}
