/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sim/experiment/cmarl.h"
#include "sim/experiment/results.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static double mean(const json_t *results, const char *part, const char *setting, const char *key)
{
    struct sl_sample s = sl_results_sample(results, part, setting, key);
    return s.n > 0 ? s.mean : NAN;
}

static void mean_cell(struct sl_page *page, const json_t *results, const char *part,
                      const char *setting, const char *key, double scale, int digits)
{
    char text[SL_SAMPLE_TEXT];
    struct sl_sample s = sl_results_sample(results, part, setting, key);
    sl_page_cell(page, "%s", sl_sample_text(&s, scale, digits, text));
}

static void number_cell(struct sl_page *page, double x, int digits)
{
    if (isnan(x))
        sl_page_cell(page, "-");
    else
        sl_page_cell(page, "%.*f", digits, x);
}

/* --- rules ------------------------------------------------------------------------ */

static void rules_table(const json_t *results, struct sl_page *page, const char *world)
{
    static const char *const rules[] = {"truth",     "random",          "local-worst",
                                        "optimised", "regularised",     "regularised-more"};
    static const char *const columns[] = {
        "rule", "return, direct", "loss, direct", "loss, it-FGSM", "loss, JSMA", "loss, d-JSMA",
        "loss, any", "any / direct", "hits, d-JSMA %", "hits, any %", "mispredicted, any %",
        "L1, JSMA", "L1, d-JSMA", "L1, any", NULL};
    static const char *const ways[] = {"direct", "fgsm", "jsma", "djsma", "any"};
    const double clean = mean(results, SL_CMARL_RULES, world, "truth.direct.team");
    char key[64];
    if (isnan(clean))
        return;
    sl_page_heading(page, "Rules and crafting, goal %s, no defence", world);
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < COUNT(rules); i++) {
        double loss[COUNT(ways)];
        sl_page_cell(page, "%s", rules[i]);
        snprintf(key, sizeof(key), "%s.direct.team", rules[i]);
        mean_cell(page, results, SL_CMARL_RULES, world, key, 1, 3);
        for (size_t w = 0; w < COUNT(ways); w++) {
            snprintf(key, sizeof(key), "%s.%s.team", rules[i], ways[w]);
            loss[w] = clean - mean(results, SL_CMARL_RULES, world, key);
            number_cell(page, loss[w], 3);
        }
        number_cell(page, loss[0] > 0 ? loss[4] / loss[0] : NAN, 2);
        static const char *const others[] = {"djsma.hits", "any.hits", "any.mispredicted"};
        for (size_t k = 0; k < COUNT(others); k++) {
            snprintf(key, sizeof(key), "%s.%s", rules[i], others[k]);
            number_cell(page, 100 * mean(results, SL_CMARL_RULES, world, key), 0);
        }
        for (size_t w = 2; w < COUNT(ways); w++) {
            snprintf(key, sizeof(key), "%s.%s.l1", rules[i], ways[w]);
            number_cell(page, mean(results, SL_CMARL_RULES, world, key), 3);
        }
    }
    sl_page_table_end(page);
}

/* --- goals and defences ----------------------------------------------------------- */

static const char *const goals[] = {"cost", "starve", SL_CMARL_LEARNER, "admission"};

/* What the goal is about: the victim's share of rounds, or the team's return. */
static const char *unit_of(const char *goal)
{
    return strcmp(goal, "starve") == 0 ? "share" : "team";
}

static double value(const json_t *results, const char *goal, const char *setting, const char *who)
{
    char key[32];
    snprintf(key, sizeof(key), "%s.%s", who, unit_of(goal));
    return mean(results, goal, setting, key);
}

/* Share of the loss without defences that is not lost with them. */
static double recovered(const json_t *results, const char *goal, const char *setting)
{
    const double clean = value(results, goal, "none", "clean");
    const double bare = value(results, goal, "none", "worst");
    if (!(clean - bare > 1e-9))
        return NAN;
    return (value(results, goal, setting, "worst") - bare) / (clean - bare);
}

/* Share of the clean return that a setting costs. */
static double cost(const json_t *results, const char *goal, const char *setting)
{
    const double clean = mean(results, goal, "none", "clean.team");
    return (clean - mean(results, goal, setting, "clean.team")) / clean;
}

static void goal_table(const json_t *results, struct sl_page *page, const char *goal)
{
    static const char *const columns[] = {
        "defence", "clean return", "cost %", "attacked return", "victim in, clean %",
        "victim in, attacked %", "loss", "recovered %", "hits %", "latency", "detected %",
        "after rounds", "false alarms %", "seeds", NULL};
    if (isnan(value(results, goal, "none", "worst")))
        return;
    sl_page_heading(page, "Goal %s", goal);
    sl_page_table_begin(page, columns);
    for (size_t i = 0; i < sl_cmarl_n_settings; i++) {
        const struct sl_cmarl_setting *s = &sl_cmarl_settings[i];
        const struct sl_sample n = sl_results_sample(results, goal, s->name, "worst.team");
        if (n.n == 0)
            continue;
        sl_page_cell(page, "%s", s->says);
        mean_cell(page, results, goal, s->name, "clean.team", 1, 3);
        number_cell(page, 100 * cost(results, goal, s->name), 1);
        mean_cell(page, results, goal, s->name, "worst.team", 1, 3);
        number_cell(page, 100 * mean(results, goal, s->name, "clean.share"), 0);
        number_cell(page, 100 * mean(results, goal, s->name, "worst.share"), 0);
        number_cell(page, value(results, goal, "none", "clean") - value(results, goal, s->name, "worst"),
                    3);
        number_cell(page, 100 * recovered(results, goal, s->name), 0);
        number_cell(page, 100 * mean(results, goal, s->name, "worst.hits"), 0);
        number_cell(page, mean(results, goal, s->name, "worst.latency"), 1);
        number_cell(page, 100 * mean(results, goal, s->name, "worst.detected"), 0);
        number_cell(page, mean(results, goal, s->name, "worst.delay"), 1);
        number_cell(page, 100 * mean(results, goal, s->name, "worst.false_alarms"), 1);
        sl_page_cell(page, "%zu", n.n);
    }
    sl_page_table_end(page);
}

static void matrix(const json_t *results, struct sl_page *page)
{
    static const char *const columns[] = {"defence",    "cost of clean return %", "G1 cost",
                                          "G2 starve",  "G3 learner",             "G4 admission",
                                          NULL};
    double x[COUNT(goals)][32], y[COUNT(goals)][32];
    struct sl_plot_series series[COUNT(goals)];
    size_t n[COUNT(goals)] = {0};
    sl_page_heading(page, "Recovered, %% of the loss without a defence");
    sl_page_table_begin(page, columns);
    for (size_t i = 1; i < sl_cmarl_n_settings; i++) {
        const char *name = sl_cmarl_settings[i].name;
        sl_page_cell(page, "%s", sl_cmarl_settings[i].says);
        number_cell(page, 100 * cost(results, "cost", name), 1);
        for (size_t g = 0; g < COUNT(goals); g++) {
            const double share = 100 * recovered(results, goals[g], name);
            number_cell(page, share, 0);
            if (isnan(share))
                continue;
            x[g][n[g]] = (double)i;
            y[g][n[g]++] = share;
        }
    }
    sl_page_table_end(page);
    for (size_t g = 0; g < COUNT(goals); g++)
        series[g] = (struct sl_plot_series){goals[g], x[g], y[g], n[g]};
    sl_page_plot(page, "cmarl-recovered",
                 &(struct sl_plot_lines){"share of the loss recovered, by the defences in the "
                                         "order of the table",
                                         "defence", "recovered (%)", series, COUNT(goals)});
}

void sl_cmarl_report(const json_t *results, struct sl_page *page)
{
    const json_t *first = json_array_get(results, 0), *policy;
    policy = json_object_get(json_object_get(first, "cell"), "policy");
    sl_page_paragraph(
        page,
        "One client is in every cohort and dishonest. Updates are cached. Attackers are trained on other "
        "federations than they are measured on, each with the defence on that it meets; of the "
        "trained one and of one that always wants the same, the worse counts. Policy %s, BLAKE2b %.16s.",
        json_string_value(json_object_get(policy, "path")),
        json_string_value(json_object_get(policy, "digest")));
    rules_table(results, page, "cost");
    rules_table(results, page, "return");
    for (size_t g = 0; g < COUNT(goals); g++)
        goal_table(results, page, goals[g]);
    matrix(results, page);
}
