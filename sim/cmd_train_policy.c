/* SPDX-License-Identifier: Apache-2.0 */
/* starling-sim train-policy: a plan in, a policy file out; beside it the log (OUT.log, JSON lines) and
 * the state to resume from (OUT.state). */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/file.h"
#include "common/hash.h"
#include "common/report.h"
#include "server/selection/fedmarl/record.h"
#include "sim/attack/cmarl/harden.h"
#include "sim/commands.h"
#include "sim/policy/train.h"

#define LOG_MAX ((size_t)1 << 32)

struct session {
    const struct sl_sim_options *o;
    struct sl_policy_plan plan;
    char digest[SL_DIGEST_HEX]; /* of the plan's text */
    char log_path[SL_PLAN_PATH], state_path[SL_PLAN_PATH];
    struct sl_report *log;
    struct sl_err failure; /* of writing the log */
    struct sl_workers *workers;
    struct sl_update_table *table;
    double started_s;
    uint32_t first_episode; /* of this process, 0 = none yet */
    bool live, line_open;
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void say(struct session *s, const char *text, double left_s)
{
    if (s->o->quiet)
        return;
    printf("%s%s", s->live ? "\r\033[K" : "", text);
    if (left_s >= 0)
        printf(", %.0f s so far, about %.0f s left", now_s() - s->started_s, left_s);
    if (!s->live)
        putchar('\n');
    s->line_open = s->live;
    fflush(stdout);
}

static void close_line(struct session *s)
{
    if (s->line_open)
        putchar('\n');
    s->line_open = false;
}

/* --- log -------------------------------------------------------------------------------------- */

/* A resumed training plays again what its state did not hold: lines from `episodes` on go. */
static enum sl_code open_log(struct session *s, uint32_t episodes, struct sl_err *err)
{
    json_t *old = NULL, *line;
    size_t i;
    enum sl_code rc = SL_OK;
    if (episodes > 0 && access(s->log_path, F_OK) == 0)
        rc = sl_report_read(s->log_path, &old, err);
    if (rc == SL_OK)
        rc = sl_report_open(s->log_path, &s->log, err);
    json_array_foreach(old, i, line)
    {
        const json_t *at = json_object_get(line, "episodes");
        if (rc == SL_OK && json_is_integer(at) && json_integer_value(at) < episodes)
            rc = sl_report_write(s->log, line, err);
    }
    json_decref(old);
    return rc;
}

static void write_log(struct session *s, json_t *line)
{
    struct sl_err err;
    if (s->failure.code == SL_OK && sl_report_write(s->log, line, &err) != SL_OK)
        s->failure = err;
    json_decref(line);
}

static void on_event(void *ctx, const struct sl_learn_event *e)
{
    struct session *s = ctx;
    char text[160];
    if (s->log == NULL && s->failure.code == SL_OK) {
        struct sl_err err;
        s->first_episode = e->episodes;
        s->started_s = now_s();
        if (open_log(s, e->episodes, &err) != SL_OK)
            s->failure = err;
    }
    if (s->failure.code != SL_OK)
        return;
    write_log(s, json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "event", "batch",
                           "episodes", (json_int_t)e->episodes, "updates", (json_int_t)e->updates,
                           "return", sl_report_real(e->mean_return), "go_share",
                           sl_report_real(e->go_share), "loss", sl_report_real(e->loss), "epsilon",
                           sl_report_real(e->epsilon), "validation",
                           sl_report_real(e->validation), "best", sl_report_real(e->best)));
    double done = e->episodes - s->first_episode, left = e->of - e->episodes;
    snprintf(text, sizeof(text), "episode %u/%u, return %.3f, go %.0f %%, loss %.3f, best %.3f",
             e->episodes, e->of, e->mean_return, 100 * e->go_share, e->loss, e->best);
    if (s->live || !isnan(e->validation))
        say(s, text, done > 0 ? (now_s() - s->started_s) / done * left : 0);
}

static void on_table(void *ctx, uint32_t done, uint32_t of)
{
    struct session *s = ctx;
    char text[80];
    snprintf(text, sizeof(text), "updates of federation %u/%u", done, of);
    say(s, text, (now_s() - s->started_s) / done * (of - done));
}

/* --- training --------------------------------------------------------------------------------- */

static struct sl_policy_training training_of(struct session *s)
{
    return (struct sl_policy_training){.plan = &s->plan,
                                       .table = s->table,
                                       .workers = s->workers,
                                       .state_path = s->state_path,
                                       .identity = s->digest,
                                       .event = on_event,
                                       .ctx = s};
}

static enum sl_code train(struct session *s, struct sl_fedmarl_policy *ret, struct sl_err *err)
{
    const struct sl_policy_training t = training_of(s);
    enum sl_code rc = sl_policy_train(&t, ret, err);
    close_line(s);
    if (rc != SL_OK)
        return rc;
    if (s->log == NULL && s->failure.code == SL_OK) { /* all was done before */
        rc = open_log(s, UINT32_MAX, err);
    } else if (s->failure.code != SL_OK) {
        *err = s->failure;
        rc = s->failure.code;
    }
    if (rc != SL_OK)
        sl_fedmarl_policy_deinit(ret);
    return rc;
}

static void push(void *ctx, const struct sl_vdn_transition *t)
{
    sl_vdn_push(ctx, t);
}

/* Off line: what coordinators logged instead of episodes. */
static enum sl_code learn_from_records(struct session *s, struct sl_vdn *v, struct sl_err *err)
{
    uint8_t *bytes;
    size_t n, steps = 0;
    double loss = 0;
    enum sl_code rc = sl_file_read(s->o->records, LOG_MAX, &bytes, &n, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_fedmarl_log_read(s->o->records, bytes, n, s->plan.learner.shape.n_inputs, push, v,
                             &steps, err);
    free(bytes);
    if (rc == SL_OK && steps < s->plan.learner.warmup)
        rc = sl_err_set(err, SL_E_INPUT, "%s: %zu rounds (at least learner.warmup: %u)",
                        s->o->records, steps, s->plan.learner.warmup);
    if (rc == SL_OK)
        rc = open_log(s, 0, err);
    if (rc != SL_OK)
        return rc;
    const uint64_t updates = (uint64_t)s->plan.training.episodes * s->plan.federation.rounds;
    for (uint64_t i = 0; i < updates; i++)
        sl_vdn_update(v, &loss);
    write_log(s, json_pack("{s:s, s:I, s:I, s:o}", "event", "records", "steps", (json_int_t)steps,
                           "updates", (json_int_t)updates, "loss", sl_report_real(loss)));
    return SL_OK;
}

static enum sl_code train_from_records(struct session *s, struct sl_fedmarl_policy *ret,
                                       struct sl_err *err)
{
    struct sl_vdn *v = NULL;
    struct sl_fedmarl_policy p = {.spec = s->plan.features};
    struct sl_vdn_options options = s->plan.learner;
    options.credit = false; /* a record holds the team's reward */
    enum sl_code rc = sl_vdn_new(&options, &v, err);
    if (rc == SL_OK)
        rc = sl_qnet_new(&options.shape, s->plan.seed, &p.net, err);
    if (rc == SL_OK)
        rc = learn_from_records(s, v, err);
    if (rc == SL_OK) {
        sl_vdn_acting(v, &p.net);
        *ret = p;
    } else {
        sl_fedmarl_policy_deinit(&p);
    }
    sl_vdn_free(v);
    return rc;
}

/* --- the policy ------------------------------------------------------------------------------- */

static enum sl_code save(struct session *s, const struct sl_fedmarl_policy *p, struct sl_err *err)
{
    char *text, seed[24], episodes[16];
    enum sl_code rc = sl_policy_plan_text(&s->plan, &text, err);
    if (rc != SL_OK)
        return rc;
    snprintf(seed, sizeof(seed), "%" PRIu64, s->plan.seed);
    snprintf(episodes, sizeof(episodes), "%u", s->plan.training.episodes);
    const struct sl_safetensors_note notes[] = {{"training.seed", seed},
                                                {"training.episodes", episodes},
                                                {"training.plan", text},
                                                {"training.plan_digest", s->digest},
                                                {"training.version", SL_VERSION}};
    rc = sl_fedmarl_policy_save(p, notes, sizeof(notes) / sizeof(notes[0]), s->o->out, err);
    free(text);
    return rc;
}

static void report(struct session *s, const struct sl_compare_row rows[SL_COMPARE_ROWS])
{
    const struct sl_compare_row *all = &rows[1];
    if (!s->o->quiet)
        printf("\n%u held-out episodes, cached updates: a check of the training, not a result\n"
               "%-16s %8s %10s %9s %9s %9s %18s\n",
               rows[0].episodes, "policy", "return", "late acc.", "latency", "traffic", "accepted",
               "return behind");
    for (size_t i = 0; i < SL_COMPARE_ROWS; i++) {
        const struct sl_compare_row *r = &rows[i];
        if (!s->o->quiet)
            printf("%-16s %8.3f %8.2f %% %9.3f %9.3f %9.2f %9.3f +- %.3f\n", r->name, r->reward,
                   100 * r->late_accuracy, r->latency / all->latency, r->traffic / all->traffic,
                   r->accepted, r->lead, r->lead_half);
        write_log(s, json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "event",
                               "comparison", "policy", r->name, "test_episodes",
                               (json_int_t)r->episodes, "return", r->reward, "late_accuracy",
                               r->late_accuracy, "latency", r->latency, "traffic", r->traffic,
                               "accepted", r->accepted, "lead", r->lead, "lead_half",
                               r->lead_half));
    }
}

static enum sl_code compare(struct session *s, const struct sl_fedmarl_policy *p,
                            struct sl_err *err)
{
    struct sl_compare_row rows[SL_COMPARE_ROWS];
    const struct sl_policy_training t = training_of(s);
    enum sl_code rc = sl_policy_compare(&t, p, rows, err);
    if (rc != SL_OK)
        return rc;
    report(s, rows);
    if (s->failure.code != SL_OK)
        *err = s->failure;
    return s->failure.code;
}

static enum sl_code prepare(struct session *s, struct sl_err *err)
{
    char *text;
    uint8_t digest[SL_DIGEST_BYTES];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    enum sl_code rc =
        sl_policy_plan_load(s->o->path, s->o->set, s->o->n_set, &s->plan, err);
    if (rc == SL_OK)
        rc = sl_policy_plan_text(&s->plan, &text, err);
    if (rc != SL_OK)
        return rc;
    sl_blake2b_256(text, strlen(text), digest);
    sl_hex(digest, sizeof(digest), s->digest);
    free(text);
    if ((size_t)snprintf(s->log_path, sizeof(s->log_path), "%s.log", s->o->out) >=
            sizeof(s->log_path) ||
        (size_t)snprintf(s->state_path, sizeof(s->state_path), "%s.state", s->o->out) >=
            sizeof(s->state_path))
        return sl_err_set(err, SL_E_LIMIT, "-o %.60s...: a path of more than %d bytes", s->o->out,
                          SL_PLAN_PATH - 8);
    rc = sl_workers_new(s->o->jobs > 0 ? s->o->jobs : cores > 0 ? (unsigned)cores : 1,
                        &s->workers, err);
    if (rc == SL_OK)
        rc = sl_update_table_new(&s->plan, s->workers, on_table, s, &s->table, err);
    close_line(s);
    return rc;
}

static enum sl_code run(struct session *s, struct sl_err *err)
{
    struct sl_fedmarl_policy p = {0};
    enum sl_code rc = prepare(s, err);
    if (rc == SL_OK)
        rc = s->o->records != NULL ? train_from_records(s, &p, err) : train(s, &p, err);
    if (rc == SL_OK && s->o->records == NULL)
        rc = sl_cmarl_harden(&s->plan, s->table, s->workers, &p, err);
    if (rc == SL_OK && s->o->records == NULL) {
        const struct sl_policy_training t = training_of(s);
        rc = sl_policy_describe(&t, &p, err);
    }
    if (rc == SL_OK)
        rc = save(s, &p, err);
    if (rc == SL_OK)
        rc = compare(s, &p, err);
    sl_fedmarl_policy_deinit(&p);
    return rc;
}

enum sl_code sl_command_train_policy(const struct sl_sim_options *o, struct sl_err *err)
{
    struct session s = {.o = o, .started_s = now_s(), .live = isatty(STDOUT_FILENO) != 0};
    enum sl_code rc = run(&s, err);
    sl_workers_free(s.workers);
    sl_update_table_free(s.table);
    sl_report_close(s.log);
    return rc;
}
