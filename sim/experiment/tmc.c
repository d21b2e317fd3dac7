/* SPDX-License-Identifier: Apache-2.0 */
/* tmc.c - temporal message control (Zhang, Lin, Zhang 2020): what a gate saves and what losses cost a team
 * that learned to speak. A cell is one training on the pace game over a perfect channel, then the trained
 * team at work under each protocol and channel. Episodes at work are longer than those of training.
 * Returns are shares of the best that the game allows. */
#include <stdio.h>
#include <string.h>

#include "common/rng.h"
#include "sim/experiment/experiment.h"
#include "sim/experiment/results.h"
#include "sim/policy/pace_game.h"
#include "sim/policy/tmc_learn.h"
#include "sim/policy/tmc_play.h"

#define PART "pace"
#define GAMES 8
#define SEED_AT_WORK UINT64_C(1000003) /* apart from the seeds of training */

/* Smooth, confident: forms and weights. The first four are the authors' readings; `paper-forms` is the
 * other one of everything, with weights found by trial. A message that is summed over nine others is
 * about a ninth of one that is averaged, its delta an 81st. */
static const struct setting {
    const char *name, *says;
    const char *message, *listen, *forms;
    double smooth, confident, delta;
} settings[] = {
    {"tmc", "both regularisers", "cell", "mean", "code", 3, .08, .01},
    {"no-smooth", "without L_s", "cell", "mean", "code", 0, .08, .01},
    {"no-confident", "without L_r", "cell", "mean", "code", 3, 0, .01},
    {"plain", "without both", "cell", "mean", "code", 0, 0, .01},
    {"paper-forms", "MLP, sum, L_s and L_r as printed", "mlp", "sum", "paper", .05, .01, .00012},
    {"mute", "no messages", "cell", "mute", "code", 0, 0, .01},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const double sweep[] = {0, .1, .2, .5, 1, 2, 5, 10, 30, 100, 400}; /* times delta */
#define TIMEOUT 6

/* How a message is treated, and whether it is gated at all. */
static const struct protocol {
    const char *key, *name;
    uint32_t timeout, window; /* timeout 1: every step is sent */
} protocols[] = {
    {"w12", "gated, window 12", TIMEOUT, 2 * TIMEOUT},
    {"w6", "gated, window 6", TIMEOUT, TIMEOUT},
    {"all", "always sent, no buffer", 1, 0},
    {"w0", "gated, no buffer", TIMEOUT, 0},
};

/* --- cells ------------------------------------------------------------------------ */

static json_t *cell_of(const struct setting *s, uint64_t seed, bool quick)
{
    return json_pack("{s:s, s:s, s:I, s:{s:s, s:s, s:s, s:f, s:f, s:i, s:i, s:f}, s:{s:i, s:i, s:f}}",
                     "part", PART, "setting", s->name, "seed", (json_int_t)seed, "team",
                     "message", s->message, "listen", s->listen, "forms", s->forms, "smooth",
                     s->smooth, "confident", s->confident, "hidden", quick ? 16 : 64, "episodes",
                     quick ? 320 : 1600, "lr", 4e-3, "work", "episodes", quick ? 16 : 96, "steps",
                     quick ? 40 : 100, "delta", s->delta);
}

static enum sl_code list(const struct sl_experiment_options *o, json_t *cells,
                         struct sl_err *err)
{
    for (size_t k = 0; k < o->n_seeds; k++)
        for (size_t i = 0; i < COUNT(settings); i++)
            if (json_array_append_new(cells, cell_of(&settings[i], o->seeds[k], o->quick)) != 0)
                return sl_err_set(err, SL_E_NOMEM, "cells of the experiment");
    return SL_OK;
}

struct work {
    struct sl_game *games[GAMES];
    struct sl_tmc_net net;
    uint32_t episodes;
    uint64_t seed;
    double best, delta;
};

static enum sl_code make_games(struct work *w, uint32_t steps, struct sl_err *err)
{
    struct sl_pace_options o = {SL_PACE_DEFAULTS};
    enum sl_code rc = SL_OK;
    o.steps = steps > 0 ? steps : o.steps;
    for (size_t i = 0; i < GAMES && rc == SL_OK; i++) {
        sl_game_free(w->games[i]);
        w->games[i] = NULL;
        rc = sl_pace_game_new(&o, &w->games[i], err);
    }
    return rc;
}

static enum sl_code train(const json_t *team, uint64_t seed, struct work *w, json_t *result,
                          struct sl_err *err)
{
    struct sl_tmc_learn_options o = {SL_TMC_LEARN_DEFAULTS};
    struct sl_tmc_learned how;
    const char *message, *listen, *forms;
    if (json_unpack((json_t *)team, "{s:s, s:s, s:s, s:F, s:F, s:i, s:i, s:F}", "message", &message,
                    "listen", &listen, "forms", &forms, "smooth", &o.smooth.lambda, "confident",
                    &o.confident.lambda, "hidden", &o.hidden, "episodes", &o.episodes, "lr",
                    &o.lr) != 0)
        return sl_err_set(err, SL_E_INPUT, "cell of tmc without its team");
    o.message = strcmp(message, "mlp") == 0 ? SL_TMC_MESSAGE_MLP : SL_TMC_MESSAGE_CELL;
    o.listen = strcmp(listen, "sum") == 0    ? SL_TMC_LISTEN_SUM
               : strcmp(listen, "mute") == 0 ? SL_TMC_LISTEN_MUTE
                                             : SL_TMC_LISTEN_MEAN;
    o.smooth.form = o.confident.form =
        strcmp(forms, "paper") == 0 ? SL_TMC_FORM_PAPER : SL_TMC_FORM_CODE;
    o.gamma = 0; /* actions move nothing in this game */
    o.lr_end = .1;
    o.batch = 8;
    o.replay = 500;
    o.epsilon_episodes = o.episodes / 2;
    o.seed = seed;
    enum sl_code rc = sl_tmc_learn(&o, w->games, GAMES, &w->net, &how, err);
    if (rc == SL_OK)
        json_object_set_new(result, "training",
                            json_pack("{s:f, s:f, s:I, s:I}", "loss", how.loss, "reward",
                                      how.reward, "updates", (json_int_t)how.updates, "steps",
                                      (json_int_t)how.steps));
    return rc;
}

/* The best return of an episode at work; actions move nothing, so any will do. */
static double best_return(struct work *w)
{
    const uint8_t actions[SL_GAME_AGENTS_MAX] = {0};
    struct sl_game *g = w->games[0];
    double sum = 0;
    for (uint32_t e = 0; e < w->episodes; e++) {
        bool done = false;
        g->ops->reset(g, sl_splitmix64_at(w->seed, e));
        while (!done) {
            sum += sl_pace_best(g);
            g->ops->step(g, actions, &done);
        }
    }
    return sum / w->episodes;
}

static enum sl_code play(const struct work *w, enum sl_channel_level level, double delta,
                         uint32_t timeout, uint32_t window, json_t *to, const char *key,
                         struct sl_err *err)
{
    struct sl_tmc_play_options o = {.gate = sl_tmc_defaults(w->net.shape.n_actions),
                                    .channel = level,
                                    .episodes = w->episodes,
                                    .seed = w->seed};
    struct sl_tmc_played_sums sums;
    o.gate.delta = delta;
    o.gate.timeout = timeout;
    o.gate.window = window;
    enum sl_code rc = sl_tmc_play(&w->net, &o, w->games, GAMES, &sums, err);
    if (rc == SL_OK)
        json_object_set_new(
            to, key,
            json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I}", "share",
                      sums.reward / w->best, "sent", sums.sent, "flips", sums.flips, "gap",
                      sums.gap, "invalid", sums.invalid, "lost", sums.lost, "keepalives",
                      (json_int_t)sums.senders.keepalives, "suppressed",
                      (json_int_t)sums.senders.suppressed, "bytes_saved",
                      (json_int_t)sums.senders.bytes_saved, "expired",
                      (json_int_t)sums.receivers.expired, "stale_uses",
                      (json_int_t)sums.receivers.stale_uses));
    return rc;
}

static enum sl_code play_all(const struct work *w, json_t *result, struct sl_err *err)
{
    enum sl_code rc = play(w, SL_CHANNEL_NONE, w->delta, 1, 0, result, "always", err);
    for (unsigned level = 0; level < SL_CHANNEL_LEVELS; level++) {
        json_t *at = json_object();
        for (size_t i = 0; i < COUNT(protocols) && rc == SL_OK; i++)
            rc = play(w, (enum sl_channel_level)level, w->delta, protocols[i].timeout,
                      protocols[i].window, at, protocols[i].key, err);
        json_object_set_new(result, sl_channel_name((enum sl_channel_level)level), at);
    }
    json_t *swept = json_object();
    for (size_t i = 0; i < COUNT(sweep) && rc == SL_OK; i++) {
        char key[24];
        snprintf(key, sizeof(key), "d%zu", i);
        rc = play(w, SL_CHANNEL_NONE, w->delta * sweep[i], TIMEOUT, 2 * TIMEOUT, swept, key, err);
    }
    json_object_set_new(result, "sweep", swept);
    return rc;
}

static enum sl_code run(const json_t *cell, json_t **ret, struct sl_err *err)
{
    struct work w = {{NULL}};
    uint32_t steps;
    json_int_t seed;
    const json_t *team;
    if (json_unpack((json_t *)cell, "{s:I, s:o, s:{s:i, s:i, s:F}}", "seed", &seed, "team", &team,
                    "work", "episodes", &w.episodes, "steps", &steps, "delta", &w.delta) != 0)
        return sl_err_set(err, SL_E_INPUT, "cell of tmc without its settings");
    json_t *result = json_object();
    enum sl_code rc = make_games(&w, 0, err);
    if (rc == SL_OK)
        rc = train(team, (uint64_t)seed, &w, result, err);
    if (rc == SL_OK)
        rc = make_games(&w, steps, err);
    if (rc == SL_OK) {
        w.seed = SEED_AT_WORK + (uint64_t)seed;
        w.best = best_return(&w);
        rc = play_all(&w, result, err);
    }
    for (size_t i = 0; i < GAMES; i++)
        sl_game_free(w.games[i]);
    sl_tmc_net_deinit(&w.net);
    if (rc == SL_OK)
        *ret = result;
    else
        json_decref(result);
    return rc;
}

/* --- report ----------------------------------------------------------------------- */

static void cell_mean(struct sl_page *page, const json_t *results, const char *setting,
                      const char *key, double scale, int digits)
{
    char text[SL_SAMPLE_TEXT];
    struct sl_sample s = sl_results_sample(results, PART, setting, key);
    sl_page_cell(page, "%s", sl_sample_text(&s, scale, digits, text));
}

static void table_of_settings(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {
        "training", "what", "delta", "always sent: return %", "gated: return %", "sent %",
        "flips, no loss %", "flips, heavy %", "return, heavy %", "gap", "seeds", NULL};
    sl_page_heading(page, "Trainings, timeout %d, window %d", TIMEOUT, 2 * TIMEOUT);
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < COUNT(settings); i++) {
        const char *name = settings[i].name;
        size_t n = sl_results_sample(results, PART, name, "always.share").n;
        if (n == 0)
            continue;
        sl_page_cell(page, "%s", name);
        sl_page_cell(page, "%s", settings[i].says);
        sl_page_cell(page, "%g", settings[i].delta);
        cell_mean(page, results, name, "always.share", 100, 2);
        cell_mean(page, results, name, "none.w12.share", 100, 2);
        cell_mean(page, results, name, "none.w12.sent", 100, 1);
        cell_mean(page, results, name, "none.w12.flips", 100, 2);
        cell_mean(page, results, name, "heavy.w12.flips", 100, 2);
        cell_mean(page, results, name, "heavy.w12.share", 100, 2);
        cell_mean(page, results, name, "always.gap", 1, 3);
        sl_page_cell(page, "%zu", n);
    }
    sl_page_table_end(page);
}

static void table_of_losses(const json_t *results, struct sl_page *page, const char *setting)
{
    static const char *const columns[] = {"protocol", "none", "light", "medium", "heavy", NULL};
    char key[64];
    sl_page_heading(page, "%s: return (%% of the best) by channel", setting);
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < COUNT(protocols); i++) {
        sl_page_cell(page, "%s", protocols[i].name);
        for (unsigned level = 0; level < SL_CHANNEL_LEVELS; level++) {
            snprintf(key, sizeof(key), "%s.%s.share",
                     sl_channel_name((enum sl_channel_level)level), protocols[i].key);
            cell_mean(page, results, setting, key, 100, 2);
        }
    }
    sl_page_table_end(page);
}

static void table_of_sweep(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {"delta (squared)", "tmc: sent %", "return %",
                                          "plain: sent %", "return %", NULL};
    sl_page_heading(page, "Delta, no loss");
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < COUNT(sweep); i++) {
        char sent[24], share[24];
        snprintf(sent, sizeof(sent), "sweep.d%zu.sent", i);
        snprintf(share, sizeof(share), "sweep.d%zu.share", i);
        sl_page_cell(page, "%g", settings[0].delta * sweep[i]);
        cell_mean(page, results, "tmc", sent, 100, 1);
        cell_mean(page, results, "tmc", share, 100, 2);
        cell_mean(page, results, "plain", sent, 100, 1);
        cell_mean(page, results, "plain", share, 100, 2);
    }
    sl_page_table_end(page);
}

static void plot_sweep(const json_t *results, struct sl_page *page)
{
    static const char *const shown[] = {"tmc", "no-smooth", "no-confident", "plain",
                                        "paper-forms"};
    double x[COUNT(shown)][COUNT(sweep)], y[COUNT(shown)][COUNT(sweep)];
    struct sl_plot_series series[COUNT(shown)];
    size_t n = 0;
    for (size_t s = 0; s < COUNT(shown); s++) {
        if (sl_results_sample(results, PART, shown[s], "always.share").n == 0)
            continue;
        for (size_t i = 0; i < COUNT(sweep); i++) {
            char key[24];
            snprintf(key, sizeof(key), "sweep.d%zu.sent", i);
            x[n][i] = 100 * sl_results_sample(results, PART, shown[s], key).mean;
            snprintf(key, sizeof(key), "sweep.d%zu.share", i);
            y[n][i] = 100 * sl_results_sample(results, PART, shown[s], key).mean;
        }
        series[n] = (struct sl_plot_series){shown[s], x[n], y[n], COUNT(sweep)};
        n++;
    }
    sl_page_plot(page, "tmc-sweep",
                 &(struct sl_plot_lines){"return against messages sent, delta from 0 to 400 times the chosen one",
                                         "messages sent (% of steps)", "return (% of the best)",
                                         series, n});
}

static void plot_losses(const json_t *results, struct sl_page *page)
{
    double x[COUNT(protocols)][SL_CHANNEL_LEVELS], y[COUNT(protocols)][SL_CHANNEL_LEVELS];
    struct sl_plot_series series[COUNT(protocols)];
    for (size_t i = 0; i < COUNT(protocols); i++) {
        for (unsigned level = 0; level < SL_CHANNEL_LEVELS; level++) {
            char key[64];
            const char *name = sl_channel_name((enum sl_channel_level)level);
            snprintf(key, sizeof(key), "%s.%s.lost", name, protocols[i].key);
            x[i][level] = 100 * sl_results_sample(results, PART, "tmc", key).mean;
            snprintf(key, sizeof(key), "%s.%s.share", name, protocols[i].key);
            y[i][level] = 100 * sl_results_sample(results, PART, "tmc", key).mean;
        }
        series[i] = (struct sl_plot_series){protocols[i].name, x[i], y[i], SL_CHANNEL_LEVELS};
    }
    sl_page_plot(page, "tmc-losses",
                 &(struct sl_plot_lines){"return against losses: none, light, medium, heavy",
                                         "messages lost (%)", "return (% of the best)", series,
                                         COUNT(protocols)});
}

static void report(const json_t *results, struct sl_page *page)
{
    sl_page_paragraph(page, "Ten agents, two actions. Return: share of the best that the game "
                            "allows. Flips: actions other than with every message there.");
    table_of_settings(results, page);
    table_of_losses(results, page, "tmc");
    table_of_losses(results, page, "plain");
    table_of_sweep(results, page);
    plot_sweep(results, page);
    plot_losses(results, page);
}

const struct sl_experiment sl_experiment_tmc = {
    .name = "tmc",
    .help = "messages of a learned team: what a gate saves, what losses cost",
    .default_seeds = 3,
    .list = list,
    .run = run,
    .report = report,
};
