/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/federation_game.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/fdmath.h"
#include "common/mem.h"
#include "common/rng.h"
#include "server/selection/fedmarl/features.h"
#include "server/selection/fedmarl/reward.h"

#define CLASSES 4   /* of devices: 1, 2, 4, 8 times */
#define LATE 10     /* rounds of late_accuracy */
#define WIDTH_BYTES 4

enum { DRAW_EPISODE = 1, DRAW_DEVICE, DRAW_COHORT, DRAW_TIMES, DRAW_RESIDENT };

/* What the coordinator would know of a client, and what its device is. */
struct device {
    double speed, uplink; /* classes */
    struct sl_client_facts facts;
};

struct federation_game {
    struct sl_game game;
    const struct sl_policy_plan *plan;
    struct sl_update_source *source; /* owned */
    /* the episode */
    uint64_t seed;
    struct device *devices; /* [clients] */
    uint32_t *order;        /* [clients], workspace */
    uint32_t *cohorts;      /* [rounds, N] */
    double *probe_s, *rest_s, *upload_s; /* [rounds, N]; rest without the upload */
    struct sl_fedmarl_times probes, uploads;
    struct sl_fedmarl_reward reward;
    uint32_t round;
    double accuracy, late[LATE];
    double *recent; /* [window]; U(accuracy) of the last rounds, of the start where there are fewer */
    struct sl_client_facts *rows; /* [N], of this round */
    struct sl_federation_terms *terms; /* [N], of this round */
    double finish_s[SL_GAME_AGENTS_MAX]; /* of the last step */
    bool late_row[SL_GAME_AGENTS_MAX];
    bool resident;
    struct sl_federation_score score;
    double *luck; /* [rounds]; U(accuracy) when everybody is accepted always */
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

/* --- an episode's draws ----------------------------------------------------------------------- */

static void draw_devices(struct federation_game *g)
{
    for (uint32_t c = 0; c < g->source->clients; c++) {
        struct sl_rng rng;
        draw(g, DRAW_DEVICE, c, 0, &rng);
        double speed = (double)(1u << sl_rng_below(&rng, CLASSES));
        double uplink = (double)(1u << sl_rng_below(&rng, CLASSES));
        g->devices[c] = (struct device){
            .speed = speed,
            .uplink = uplink,
            .facts = {.client = c,
                      .reported = true,
                      .samples = g->source->samples[c],
                      .upload_bytes = g->source->n_params * WIDTH_BYTES,
                      .message_valid = true}};
    }
}

static uint32_t resident_of(const struct federation_game *g)
{
    struct sl_rng rng;
    draw(g, DRAW_RESIDENT, 0, 0, &rng);
    return (uint32_t)sl_rng_below(&rng, g->source->clients);
}

static void bring_to_front(uint32_t *order, uint32_t n, uint32_t wanted)
{
    for (uint32_t i = 0; i < n; i++)
        if (order[i] == wanted) {
            order[i] = order[0];
            order[0] = wanted;
            return;
        }
}

static void draw_cohort(struct federation_game *g, uint32_t round)
{
    const uint32_t n = g->game.n_agents;
    struct sl_rng rng;
    draw(g, DRAW_COHORT, 0, round, &rng);
    for (uint32_t c = 0; c < g->source->clients; c++)
        g->order[c] = c;
    sl_rng_shuffle_u32(&rng, g->order, g->source->clients);
    if (g->resident)
        bring_to_front(g->order, g->source->clients, resident_of(g));
    memcpy(g->cohorts + (size_t)round * n, g->order, n * sizeof(*g->order));
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
        double epoch_s = g->source->samples[c] / g->plan->devices.samples_per_s * d->speed *
                         lognormal(&rng, g->plan->devices.sigma);
        g->probe_s[at] = epoch_s;
        g->rest_s[at] = epoch_s * (g->source->epochs - 1);
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

/* Seconds that row i of this round takes after the decision, on its terms. */
static double finish_s(const struct federation_game *g, uint32_t i, bool *ret_late)
{
    const size_t at = (size_t)g->round * g->game.n_agents + i;
    const struct sl_federation_terms *t = &g->terms[i];
    const double s = g->rest_s[at] + g->upload_s[at] + t->stall_s;
    *ret_late = t->deadline_s > 0 && s > t->deadline_s;
    return *ret_late ? t->deadline_s : s;
}

static double latency_now(struct federation_game *g, const uint8_t *accept)
{
    const uint32_t n = g->game.n_agents;
    for (uint32_t i = 0; i < n; i++)
        g->finish_s[i] = finish_s(g, i, &g->late_row[i]);
    return sl_fedmarl_latency(g->probe_s + (size_t)g->round * n, g->finish_s, accept, n);
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
    double loss[SL_GAME_AGENTS_MAX];
    g->source->ops->probe(g->source, g->round, g->cohorts + (size_t)g->round * n, n, loss);
    for (uint32_t i = 0; i < n; i++) {
        const size_t at = (size_t)g->round * n + i;
        struct sl_client_facts *f = &g->devices[g->cohorts[at]].facts;
        shift_in(f->probe_s, &f->n_probe, g->probe_s[at]);
        sl_fedmarl_times_add(&g->probes, g->probe_s[at]);
        f->probe_loss = loss[i];
        g->rows[i] = *f;
        g->terms[i] = (struct sl_federation_terms){SL_FEDERATION_TERMS_DEFAULTS};
    }
}

void sl_federation_terms(struct sl_game *game, uint32_t row, const struct sl_federation_terms *t)
{
    struct federation_game *g = self(game);
    const size_t at = (size_t)g->round * game->n_agents + row;
    assert(row < game->n_agents && g->round < game->max_steps);
    g->probe_s[at] += t->probe_delay_s - g->terms[row].probe_delay_s;
    g->devices[g->cohorts[at]].facts.probe_s[0] = g->probe_s[at];
    g->rows[row].probe_s[0] = g->probe_s[at];
    g->terms[row] = *t;
}

double sl_federation_finish_s(const struct sl_game *game, uint32_t row, bool *ret_late)
{
    const struct federation_game *g = self_const(game);
    *ret_late = g->late_row[row];
    return g->finish_s[row];
}

double sl_federation_natural_s(const struct sl_game *game, uint32_t row)
{
    const struct federation_game *g = self_const(game);
    const size_t at = (size_t)g->round * game->n_agents + row;
    return g->rest_s[at] + g->upload_s[at];
}

void sl_federation_resident(struct sl_game *game, bool on)
{
    self(game)->resident = on;
}

double sl_federation_latency_ref_s(const struct sl_game *game)
{
    return self_const(game)->reward.latency_ref_s;
}

/* Plays the episode's cohorts with everybody accepted. */
static void try_luck(struct federation_game *g, uint32_t federation)
{
    struct sl_update_source *source = g->source;
    const uint32_t n = g->game.n_agents;
    uint8_t everybody[SL_GAME_AGENTS_MAX];
    double loss[SL_GAME_AGENTS_MAX];
    memset(everybody, 1, sizeof(everybody));
    source->ops->begin(source, federation);
    for (uint32_t t = 0; t < g->game.max_steps; t++) {
        source->ops->probe(source, t, g->cohorts + (size_t)t * n, n, loss);
        g->luck[t] =
            sl_fedmarl_utility_of(&g->reward, source->ops->reach(source, everybody, NULL));
        source->ops->keep(source);
    }
}

static void reset(struct sl_game *game, uint64_t seed)
{
    struct federation_game *g = self(game);
    const double *upload_s = g->plan->devices.upload_s;
    struct sl_rng rng;
    g->seed = seed;
    draw(g, DRAW_EPISODE, 0, 0, &rng);
    const uint32_t federation = (uint32_t)sl_rng_below(&rng, g->source->n_federations);
    g->accuracy = g->source->ops->begin(g->source, federation);
    double unit_s = upload_s[0] * sl_pow(upload_s[1] / upload_s[0], sl_rng_f64(&rng));
    draw_devices(g);
    for (uint32_t t = 0; t < game->max_steps; t++) {
        draw_cohort(g, t);
        draw_times(g, t, unit_s);
    }
    double lengths[10000];
    g->reward = g->plan->reward;
    g->reward.latency_ref_s = latency_of_all(g, lengths);
    g->reward.traffic_ref = game->n_agents;
    if (g->plan->learner.credit) {
        try_luck(g, federation);
        g->accuracy = g->source->ops->begin(g->source, federation);
    }
    g->probes = g->uploads = (struct sl_fedmarl_times){0};
    g->round = 0;
    for (uint32_t i = 0; i < g->plan->window; i++)
        g->recent[i] = sl_fedmarl_utility_of(&g->reward, g->accuracy);
    g->score = (struct sl_federation_score){.accuracy = g->accuracy};
    probe(g);
}

static uint64_t most_samples(const struct federation_game *g)
{
    uint32_t most = 0;
    for (uint32_t c = 0; c < g->source->clients; c++)
        most = g->source->samples[c] > most ? g->source->samples[c] : most;
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
        .epochs = g->source->epochs,
        .probe_epochs = 1,
        .loss_scale = sl_fedmarl_loss_scale_ce(g->source->n_classes),
        .median_probe_s = sl_fedmarl_times_median(&g->probes),
        .mean_probe_s = sl_fedmarl_times_mean(&g->probes),
        .mean_upload_s = sl_fedmarl_times_mean(&g->uploads),
        .full_bytes = g->source->n_params * WIDTH_BYTES,
        .max_samples = most_samples(g)};
    *ret_rows = g->rows;
}

static void observe(const struct sl_game *game, float *ret)
{
    const struct federation_game *g = self_const(game);
    struct sl_round_facts round;
    const struct sl_client_facts *rows;
    uint32_t from, to;
    sl_federation_facts(game, &round, &rows);
    sl_fedmarl_features(&g->plan->features, &round, rows, game->n_agents, ret);
    sl_policy_withheld(g->plan, &from, &to);
    for (uint32_t i = 0; i < game->n_agents; i++)
        for (uint32_t k = from; k < to; k++)
            ret[i * game->n_inputs + k] = 0;
}

static void remember(struct federation_game *g, const uint8_t *accept)
{
    const uint32_t n = g->game.n_agents;
    for (uint32_t c = 0; c < g->source->clients; c++) {
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
        /* what the coordinator saw of it */
        double upload_s = g->upload_s[at];
        if (g->terms[i].stall_s > 0 || g->late_row[i])
            upload_s = g->finish_s[i] > g->rest_s[at] ? g->finish_s[i] - g->rest_s[at] : 0;
        shift_in(f->upload_s, &f->n_upload, upload_s);
        sl_fedmarl_times_add(&g->uploads, upload_s);
    }
}

/* Each accepted client's part of the seconds after the decision: the Shapley value of the game whose
 * worth is its slowest member's time (Littlechild, Owen 1973). What the k-th fastest of m adds to the one
 * before it is borne in equal parts by it and all slower ones; the parts sum to the whole. */
static void share_latency(const struct federation_game *g, const uint8_t *actions, double *ret)
{
    const uint32_t n = g->game.n_agents;
    uint32_t order[SL_GAME_AGENTS_MAX], m = 0;
    double before = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        ret[i] = g->finish_s[i];
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

/* The team's part. The terms of the utility's mean over a window of W rounds telescope: over an episode they sum to
 * that at its end, in which each of the last W rounds has the weight 1 / W. So that is what a round earns, up
 * to what no action changes; and from it goes what the round reaches in a run that accepts everybody always:
 * the luck of the cohorts, which no action changes either. (Everybody's accuracy from the same
 * start would take more luck away, and with it what earlier actions did to the start.) */
static void split(struct federation_game *g, const uint8_t *actions)
{
    double part_s[SL_GAME_AGENTS_MAX];
    const uint32_t window = g->plan->window;
    const double weight = g->round + window >= g->game.max_steps ? 1.0 / window : 0;
    share_latency(g, actions, part_s);
    g->team = weight * g->reward.w1 *
              (sl_fedmarl_utility_of(&g->reward, g->accuracy) - g->luck[g->round]);
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

/* What arrives in time becomes the model. */
static void aggregate(struct federation_game *g, const uint8_t *actions)
{
    uint8_t in[SL_GAME_AGENTS_MAX];
    float scale[SL_GAME_AGENTS_MAX];
    for (uint32_t i = 0; i < g->game.n_agents; i++) {
        in[i] = actions[i] && !g->late_row[i];
        scale[i] = g->terms[i].update_scale;
    }
    g->accuracy = g->source->ops->reach(g->source, in, scale);
    g->source->ops->keep(g->source);
}

/* Mean over the window. */
static double utility(const struct federation_game *g)
{
    double sum = 0;
    for (uint32_t i = 0; i < g->plan->window; i++)
        sum += g->recent[i];
    return sum / g->plan->window;
}

static void keep_score(struct federation_game *g, const uint8_t *actions, double cost, double time_s)
{
    struct sl_federation_score *s = &g->score;
    const uint32_t n = g->game.n_agents;
    uint32_t accepted = 0;
    for (uint32_t i = 0; i < n; i++)
        accepted += actions[i];
    s->plain += g->reward.w1 * (sl_fedmarl_utility_of(&g->reward, g->accuracy) -
                                sl_fedmarl_utility_of(&g->reward, s->accuracy)) -
                cost;
    s->latency += time_s / g->reward.latency_ref_s;
    s->traffic += (double)accepted / n;
    s->accepted += accepted;
    s->accuracy = g->accuracy;
    g->late[s->rounds++ % LATE] = g->accuracy;
}

static double step(struct sl_game *game, const uint8_t *actions, bool *ret_done)
{
    struct federation_game *g = self(game);
    const double before = utility(g);
    assert(g->round < game->max_steps);
    double traffic = 0;
    for (uint32_t i = 0; i < game->n_agents; i++)
        traffic += actions[i];
    const double time_s = latency_now(g, actions);
    const double cost = sl_fedmarl_cost_of(&g->reward, time_s, traffic);
    aggregate(g, actions);
    if (g->plan->learner.credit)
        split(g, actions);
    remember(g, actions);
    keep_score(g, actions, cost, time_s);
    g->recent[g->round % g->plan->window] = sl_fedmarl_utility_of(&g->reward, g->accuracy);
    const double reward = g->reward.w1 * (utility(g) - before) - cost;
    g->score.reward += reward;
    g->round++;
    *ret_done = g->round == game->max_steps;
    if (!*ret_done)
        probe(g);
    return reward;
}

struct sl_update_source *sl_federation_source(const struct sl_game *game)
{
    return self_const(game)->source;
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
    sl_update_source_free(g->source);
    free(g->devices);
    free(g->order);
    free(g->cohorts);
    free(g->luck);
    free(g->recent);
    free(g->probe_s);
    free(g->rest_s);
    free(g->upload_s);
    free(g->rows);
    free(g->terms);
    free(g);
}

static const struct sl_game_ops ops = {"federation", reset, observe, step, free_game, credit};

static bool alloc(struct federation_game *g)
{
    const size_t n = g->game.n_agents, cells = g->game.max_steps * n;
    const size_t clients = g->source->clients;
    g->devices = sl_calloc(clients, sizeof(*g->devices));
    g->order = sl_calloc(clients, sizeof(*g->order));
    g->cohorts = sl_calloc(cells, sizeof(*g->cohorts));
    g->luck = sl_calloc(g->game.max_steps, sizeof(double));
    g->recent = sl_calloc(g->plan->window, sizeof(double));
    g->probe_s = sl_calloc(cells, sizeof(double));
    g->rest_s = sl_calloc(cells, sizeof(double));
    g->upload_s = sl_calloc(cells, sizeof(double));
    g->rows = sl_calloc(n, sizeof(*g->rows));
    g->terms = sl_calloc(n, sizeof(*g->terms));
    return g->devices != NULL && g->order != NULL && g->cohorts != NULL && g->luck != NULL &&
           g->recent != NULL && g->probe_s != NULL && g->rest_s != NULL && g->upload_s != NULL &&
           g->rows != NULL && g->terms != NULL;
}

enum sl_code sl_federation_game_over(const struct sl_policy_plan *plan,
                                     struct sl_update_source *source, struct sl_game **ret,
                                     struct sl_err *err)
{
    struct federation_game *g = sl_calloc(1, sizeof(*g));
    if (g == NULL) {
        sl_update_source_free(source);
        return sl_err_set(err, SL_E_NOMEM, "federation game");
    }
    g->game = (struct sl_game){.ops = &ops,
                               .n_agents = plan->federation.cohort,
                               .n_actions = 2,
                               .n_inputs = sl_fedmarl_n_inputs(&plan->features),
                               .max_steps = plan->federation.rounds};
    g->plan = plan;
    g->source = source;
    enum sl_code rc = SL_OK;
    if (plan->federation.cohort > source->clients)
        rc = sl_err_set(err, SL_E_RANGE, "cohorts of %u of %u clients", plan->federation.cohort,
                        source->clients);
    else if (!alloc(g))
        rc = sl_err_set(err, SL_E_NOMEM, "federation game");
    if (rc != SL_OK) {
        free_game(&g->game);
        return rc;
    }
    reset(&g->game, 0);
    *ret = &g->game;
    return SL_OK;
}

enum sl_code sl_federation_game_new(const struct sl_policy_plan *plan,
                                    const struct sl_update_table *table,
                                    enum sl_federation_part part, struct sl_game **ret,
                                    struct sl_err *err)
{
    const uint32_t pool = SL_POLICY_PARTITIONS * plan->federation.pool;
    const bool own = part == SL_FEDERATION_POOL;
    struct sl_update_source *source;
    enum sl_code rc = sl_cached_updates_new(
        plan, table, own ? 0 : pool, own ? pool : table->n_federations - pool, &source, err);
    return rc == SL_OK ? sl_federation_game_over(plan, source, ret, err) : rc;
}
