/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/scenario/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/accel.h"

#define STEPS_MAX 2000000

struct seen {
    struct outcome *out;
    json_t *record; /* NULL = not wanted */
    struct sl_world_hooks invariants;
};

struct sl_plan plan_of(const char *text)
{
    struct sl_plan p = {0};
    struct sl_err err;
    if (sl_plan_parse(text, strlen(text), "test", NULL, 0, &p, &err) != SL_OK) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    return p;
}

static struct sl_plan small_plan_of(const char *layers)
{
    char text[1024];
    snprintf(text, sizeof(text),
             "run: {name: small, seed: 1, rounds: 3, eval_every: 0, max_retries: 2}\n"
             "data:\n"
             "  dataset: synthetic\n"
             "  path: \"channels=1,height=6,width=6,classes=3,train=120,test=30\"\n"
             "  partition: {kind: iid, clients: 8}\n"
             "model: {layers: [%s]}\n"
             "train: {epochs: 1, batch_size: 8, lr: 0.1}\n"
             "selection: {clients_per_round: 4, deadline_s: 60, quorum: 1.0}\n",
             layers);
    return plan_of(text);
}

struct sl_plan small_plan(void)
{
    return small_plan_of("flatten, {dense: 3}");
}

struct sl_plan wide_plan(void)
{
    return small_plan_of("flatten, {dense: 1700}, {dense: 3}");
}

static void see_round(struct outcome *o, const json_t *line)
{
    o->stopped += (uint32_t)json_integer_value(json_object_get(line, "stopped"));
    o->redecided += (uint32_t)json_integer_value(json_object_get(line, "redecided"));
    if (o->n_rounds >= ROUNDS_SEEN)
        return;
    o->selected[o->n_rounds] =
        (uint32_t)json_integer_value(json_object_get(line, "selected"));
    if (json_is_array(json_object_get(line, "selected")))
        o->selected[o->n_rounds] =
            (uint32_t)json_array_size(json_object_get(line, "selected"));
    o->completed[o->n_rounds] =
        (uint32_t)json_integer_value(json_object_get(line, "completed"));
    o->latency_s[o->n_rounds] = json_number_value(json_object_get(line, "latency_s"));
    const char *digest = json_string_value(json_object_get(line, "model_digest"));
    snprintf(o->round_digest, sizeof(o->round_digest), "%s", digest == NULL ? "" : digest);
    o->n_rounds++;
}

static void see_calibration(struct outcome *o, const json_t *line)
{
    o->n_calibrations++;
    o->calibrated = (uint32_t)json_integer_value(json_object_get(line, "clients"));
    o->share = json_number_value(json_object_get(line, "share"));
    o->gained = json_number_value(json_object_get(line, "accuracy_after")) -
                json_number_value(json_object_get(line, "accuracy_before"));
}

static void on_report(void *ctx, uint64_t run, json_t *line)
{
    struct seen *s = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    if (s->record != NULL)
        json_array_append(s->record, line);
    if (event != NULL && strcmp(event, "round") == 0)
        see_round(s->out, line);
    if (event != NULL && strcmp(event, "calibration") == 0)
        see_calibration(s->out, line);
    if (event != NULL && strcmp(event, "run_end") == 0) {
        const char *digest = json_string_value(json_object_get(line, "model_digest"));
        const json_t *accuracy = json_object_get(line, "accuracy");
        snprintf(s->out->digest, sizeof(s->out->digest), "%s",
                 digest == NULL ? "" : digest);
        s->out->accuracy = json_is_number(accuracy) ? json_number_value(accuracy) : -1;
        s->out->n_runs++;
    }
    s->invariants.report(s->invariants.ctx, run, line);
}

static void on_accepted(void *ctx, uint64_t run, uint32_t round, uint32_t client)
{
    struct seen *s = ctx;
    s->invariants.accepted(s->invariants.ctx, run, round, client);
}

static void on_coordinator(void *ctx, bool alive, bool power_loss)
{
    struct seen *s = ctx;
    s->invariants.coordinator(s->invariants.ctx, alive, power_loss);
}

static void on_stepped(void *ctx, const struct sl_world *w)
{
    struct seen *s = ctx;
    s->invariants.stepped(s->invariants.ctx, w);
}

static void run_watched(struct outcome *o, const struct sl_world_options *options,
                        struct sl_invariants *v)
{
    struct sl_world *w;
    o->rc = sl_world_new(options, &w, &o->err);
    if (o->rc != SL_OK)
        return;
    sl_invariants_watch(v, w);
    o->rc = sl_world_run(w, STEPS_MAX, &o->err);
    struct sl_err broken;
    if (sl_invariants_end(v, &broken) != SL_OK && (o->rc == SL_OK || o->rc == SL_E_FAILED)) {
        if (o->rc == SL_E_FAILED)
            fprintf(stderr, "%s\n", o->err.msg);
        o->rc = SL_E_BUG;
        o->err = broken;
    }
    o->stats = sl_world_stats(w);
    o->holdings = sl_world_holdings(w);
    sl_world_free(w);
}

static struct outcome run_all(const struct sl_plan *plans, size_t n, unsigned jobs,
                              const json_t *replay, json_t *record)
{
    struct outcome o = {.accuracy = -1};
    struct sl_invariants *v;
    sl_accel_init();
    o.rc = sl_invariants_new(plans, n, &v, &o.err);
    if (o.rc != SL_OK)
        return o;
    struct seen seen = {.out = &o, .record = record, .invariants = sl_invariants_hooks(v)};
    struct sl_world_options options = {.plans = plans,
                                       .n_plans = n,
                                       .jobs = jobs,
                                       .replay = replay,
                                       .hooks = {.ctx = &seen,
                                                 .report = on_report,
                                                 .accepted = on_accepted,
                                                 .coordinator = on_coordinator,
                                                 .stepped = on_stepped}};
    run_watched(&o, &options, v);
    sl_invariants_free(v);
    return o;
}

struct outcome run_plans(const struct sl_plan *plans, size_t n, unsigned jobs)
{
    return run_all(plans, n, jobs, NULL, NULL);
}

struct outcome run_plan(const struct sl_plan *plan, unsigned jobs)
{
    return run_plans(plan, 1, jobs);
}

struct outcome run_recorded(const struct sl_plan *plan, unsigned jobs, const json_t *replay,
                            json_t *record)
{
    return run_all(plan, 1, jobs, replay, record);
}
