/* SPDX-License-Identifier: Apache-2.0 */
/* robust.c - rules that withstand attackers, and what they cost without any. Part "all":
 * every client in every round, attackers that flip the sign, and the bounds that a rule
 * must keep. Parts "drawn-N%": drawn cohorts, every attack, so many attackers. The rate
 * falls to 0, for Krum moves by one client's update, whose noise nobody averages out. */
#include <stdio.h>
#include <string.h>

#include "sim/attack/attack.h"
#include "sim/experiment/experiment.h"
#include "sim/experiment/results.h"
#include "sim/experiment/training.h"

#define ALL "all"
#define ALL_CLIENTS 20
#define ALL_ATTACKERS 4
#define DRAWN_LIMIT 20000 /* training images */
#define DRAWN_CLIENTS 40
#define COHORT 10
#define CLEAN "none"

static const struct rule {
    const char *name, *strategy;
    const char *told; /* key for the number of attackers to be withstood; NULL = none */
    const char *aggregation;
    bool bounded; /* must stay near the clean run */
} rules[] = {
    {"fedavg", "fedavg", NULL, "", false},
    {"median", "median", NULL, "", true},
    {"trimmed-mean", "trimmed-mean", "trim", "", true},
    {"krum", "krum", "f", "", true},
    {"multi-krum", "multi-krum", "f", "", false},
    {"geometric-median", "geometric-median", NULL, "", true},
    {"clipped", "fedavg", NULL, "clip_norm: 0.5", false},
};

#define N_RULES (sizeof(rules) / sizeof(rules[0]))

static const char *const attacks[] = {"sign-flip", "label-flip", "scaling", "little"};

#define N_ATTACKS (sizeof(attacks) / sizeof(attacks[0]))

static const struct share {
    const char *part;
    int attackers; /* of DRAWN_CLIENTS */
    int withstood; /* what the rules are told: attackers of COHORT, on average */
} shares[] = {{"drawn-10%", 4, 1}, {"drawn-20%", 8, 2}, {"drawn-30%", 12, 3}};

#define N_SHARES (sizeof(shares) / sizeof(shares[0]))

/* --- cells ------------------------------------------------------------------------ */

struct setup {
    const char *part, *attack;
    int limit, clients, cohort, attackers, withstood;
};

static void setting_of(const struct rule *rule, const char *attack, char ret[64])
{
    snprintf(ret, 64, "%s,%s", rule->name, attack);
}

/* The attack stands beside the plan, which knows of none. */
static enum sl_code add_cell(json_t *cells, const struct setup *s,
                             const struct rule *rule, uint64_t seed, bool quick,
                             struct sl_err *err)
{
    char setting[64], told[32] = "";
    const struct sl_attack_ops *ops = sl_attack_find(s->attack);
    setting_of(rule, s->attack, setting);
    if (rule->told != NULL)
        snprintf(told, sizeof(told), ", %s: %d", rule->told, s->withstood);
    enum sl_code rc = sl_cell_add(
        cells, s->part, setting, seed, err,
        "run: {name: robust, rounds: %d}\n"
        "data: {dataset: fashion-mnist, limit: %d, test_limit: %d,\n"
        "       partition: {kind: iid, clients: %d}}\n"
        "model: {name: mlp}\n"
        "train: {epochs: 2, batch_size: %d, lr: 0.05, lr_schedule: {kind: cosine}}\n"
        "strategy: {name: %s%s}\n"
        "selection: {clients_per_round: %d}\n"
        "aggregation: {%s}\n",
        quick ? 10 : 20, quick ? 4000 : s->limit, quick ? 1000 : 0, s->clients,
        quick ? 10 : 32, rule->strategy, told, s->cohort, rule->aggregation);
    if (rc != SL_OK || ops == NULL)
        return rc;
    json_t *cell = json_array_get(cells, json_array_size(cells) - 1);
    json_t *attack = json_pack("{s:s, s:i, s:f}", "name", ops->name, "attackers",
                               s->attackers, "strength", ops->strength);
    if (json_object_set_new(cell, "attack", attack) != 0)
        return sl_err_set(err, SL_E_NOMEM, "cells of the experiment");
    return SL_OK;
}

static enum sl_code add_rules(json_t *cells, const struct setup *s,
                              const struct sl_experiment_options *o, struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    for (size_t i = 0; i < N_RULES; i++)
        for (size_t k = 0; k < o->n_seeds && rc == SL_OK; k++)
            rc = add_cell(cells, s, &rules[i], o->seeds[k], o->quick, err);
    return rc;
}

static enum sl_code list(const struct sl_experiment_options *o, json_t *cells,
                         struct sl_err *err)
{
    struct setup s = {ALL,           CLEAN,         0, ALL_CLIENTS, ALL_CLIENTS,
                      ALL_ATTACKERS, ALL_ATTACKERS};
    enum sl_code rc = add_rules(cells, &s, o, err);
    s.attack = attacks[0];
    if (rc == SL_OK)
        rc = add_rules(cells, &s, o, err);
    for (size_t i = 0; i < N_SHARES; i++)
        for (size_t a = 0; a < N_ATTACKS && rc == SL_OK; a++) {
            s = (struct setup){
                shares[i].part, attacks[a],          DRAWN_LIMIT,        DRAWN_CLIENTS,
                COHORT,         shares[i].attackers, shares[i].withstood};
            rc = add_rules(cells, &s, o, err);
        }
    return rc;
}

static enum sl_code run(const json_t *cell, json_t **ret, struct sl_err *err)
{
    struct sl_plan plan = {0};
    const json_t *a = json_object_get(cell, "attack");
    struct sl_attack attack = {0};
    if (a != NULL)
        attack = (struct sl_attack){
            .ops = sl_attack_find(json_string_value(json_object_get(a, "name"))),
            .n = (uint32_t)json_integer_value(json_object_get(a, "attackers")),
            .strength = json_number_value(json_object_get(a, "strength"))};
    enum sl_code rc = sl_cell_plan(cell, &plan, err);
    if (rc == SL_OK)
        rc = sl_federated_run(&plan, a == NULL ? NULL : &attack, NULL, ret, err);
    sl_plan_deinit(&plan);
    return rc;
}

/* --- report ----------------------------------------------------------------------- */

static struct sl_sample accuracy(const json_t *results, const char *part,
                                 const struct rule *rule, const char *attack)
{
    char setting[64];
    setting_of(rule, attack, setting);
    return sl_results_sample(results, part, setting, "last5");
}

static struct sl_sample minus_clean_mean(const json_t *results, const struct rule *rule,
                                         const char *attack)
{
    char setting[64], reference[64];
    setting_of(rule, attack, setting);
    setting_of(&rules[0], CLEAN, reference);
    return sl_results_paired(results, ALL, setting, reference, "last5");
}

/* What a rule must keep: FedAvg falls by more than 20 points; the others stay within 5 of
 * the clean run under attack, and within 3 without. */
static void verdict(struct sl_page *page, const struct rule *rule, bool attacked,
                    const struct sl_sample *d)
{
    double fall = -100 * d->mean;
    if (rule == &rules[0] && attacked)
        sl_page_cell(page, "falls by > 20: %s", fall > 20 ? "holds" : "does not hold");
    else if (rule->bounded)
        sl_page_cell(page, "<= %d: %s", attacked ? 5 : 3,
                     fall <= (attacked ? 5 : 3) ? "holds" : "does not hold");
    else
        sl_page_cell(page, "%s", "");
}

static void bounds_table(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {
        "rule",    "attack", "accuracy %", "minus clean fedavg, paired",
        "verdict", "seeds",  NULL};
    char text[SL_SAMPLE_TEXT];
    sl_page_table_begin(page, columns);
    for (int attacked = 0; attacked < 2; attacked++)
        for (size_t i = 0; i < N_RULES; i++) {
            const char *attack = attacked ? attacks[0] : CLEAN;
            struct sl_sample a = accuracy(results, ALL, &rules[i], attack);
            struct sl_sample d = minus_clean_mean(results, &rules[i], attack);
            if (a.n == 0)
                continue;
            sl_page_cell(page, "%s", rules[i].name);
            sl_page_cell(page, "%s", attack);
            sl_page_cell(page, "%s", sl_sample_text(&a, 100, 2, text));
            sl_page_cell(page, "%s", sl_difference_text(&d, 100, 2, text));
            verdict(page, &rules[i], attacked, &d);
            sl_page_cell(page, "%zu", a.n);
        }
    sl_page_table_end(page);
}

/* Seeds of a rule's cells, where it has most. */
static size_t most_seeds(const json_t *results, const char *part, const struct rule *rule)
{
    size_t most = 0;
    for (size_t a = 0; a < N_ATTACKS; a++) {
        size_t n = accuracy(results, part, rule, attacks[a]).n;
        most = n > most ? n : most;
    }
    return most;
}

static void attacks_table(const json_t *results, struct sl_page *page, const char *part)
{
    static const char *const columns[] = {
        "rule", "sign-flip", "label-flip", "scaling", "little", "seeds", NULL};
    char text[SL_SAMPLE_TEXT];
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < N_RULES; i++) {
        size_t seeds = most_seeds(results, part, &rules[i]);
        if (seeds == 0)
            continue;
        sl_page_cell(page, "%s", rules[i].name);
        for (size_t a = 0; a < N_ATTACKS; a++) {
            struct sl_sample s = accuracy(results, part, &rules[i], attacks[a]);
            sl_page_cell(page, "%s", sl_sample_text(&s, 100, 2, text));
        }
        sl_page_cell(page, "%zu", seeds);
    }
    sl_page_table_end(page);
}

static void plot(const json_t *results, struct sl_page *page, const char *attack)
{
    double x[N_RULES][N_SHARES], y[N_RULES][N_SHARES];
    struct sl_plot_series series[N_RULES];
    char name[64], title[64];
    size_t n = 0;
    for (size_t i = 0; i < N_RULES; i++) {
        size_t points = 0;
        for (size_t k = 0; k < N_SHARES; k++) {
            struct sl_sample s = accuracy(results, shares[k].part, &rules[i], attack);
            if (s.n == 0)
                continue;
            x[n][points] = 100.0 * shares[k].attackers / DRAWN_CLIENTS;
            y[n][points++] = 100 * s.mean;
        }
        if (points > 0) {
            series[n] = (struct sl_plot_series){rules[i].name, x[n], y[n], points};
            n++;
        }
    }
    snprintf(name, sizeof(name), "robust-%s", attack);
    snprintf(title, sizeof(title), "%s, drawn cohorts", attack);
    if (n > 0)
        sl_page_plot(page, name,
                     &(struct sl_plot_lines){title, "attackers (%)", "test accuracy (%)",
                                             series, n});
}

static void report(const json_t *results, struct sl_page *page)
{
    sl_page_paragraph(page, "Accuracy: mean of the last five rounds.");
    if (sl_results_count(results, ALL) > 0) {
        sl_page_heading(page, "All of %d clients, %d attackers", ALL_CLIENTS,
                        ALL_ATTACKERS);
        bounds_table(results, page);
    }
    for (size_t k = 0; k < N_SHARES; k++) {
        if (sl_results_count(results, shares[k].part) == 0)
            continue;
        sl_page_heading(page, "%d drawn of %d clients, %d attackers", COHORT,
                        DRAWN_CLIENTS, shares[k].attackers);
        attacks_table(results, page, shares[k].part);
    }
    for (size_t a = 0; a < N_ATTACKS; a++)
        plot(results, page, attacks[a]);
}

const struct sl_experiment sl_experiment_robust = {
    .name = "robust",
    .help = "rules that withstand attackers, and what they cost",
    .default_seeds = 3,
    .list = list,
    .run = run,
    .report = report,
};
