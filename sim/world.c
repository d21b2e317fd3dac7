/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/mem.h"
#include "sim/world_internal.h"

void world_fail(struct sl_world *w, enum sl_code rc, const char *what)
{
    if (w->failure.code == SL_OK)
        sl_err_set(&w->failure, rc, "world: %s", what);
}

void world_push(struct sl_world *w, enum event_kind kind, uint64_t at_us, uint32_t client,
                uint64_t token, uint32_t flight)
{
    struct sl_sim_event e = {.at_us = at_us,
                             .kind = kind,
                             .client = client,
                             .token = token,
                             .n_bytes = flight};
    if (!sl_events_push(&w->events, &e))
        world_fail(w, SL_E_NOMEM, "event");
}

/* --- what the coordinator asks of its surroundings
 * ------------------------------------------- */

static void env_reply(void *ctx, sl_request_id id, const struct sl_msg *m)
{
    link_reply(ctx, id, m);
}

static void env_wake_at(void *ctx, uint64_t at_ms)
{
    struct sl_world *w = ctx;
    uint64_t at_us = at_ms * 1000;
    world_push(w, EV_COORDINATOR_TIME, at_us > w->now_us ? at_us : w->now_us, NONE,
               ++w->alarm, 0);
}

static void note_round(struct sl_world *w, uint64_t run, const json_t *line)
{
    w->round_done = true;
    w->round_run = run;
    w->round_number = (uint32_t)json_integer_value(json_object_get(line, "round"));
    w->round = w->round_number + 1;
    sl_faults_new_round(&w->faults);
}

static void env_report(void *ctx, uint64_t run, json_t *line)
{
    struct sl_world *w = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event != NULL && strcmp(event, "round") == 0)
        note_round(w, run, line);
    if (event != NULL && strcmp(event, "run_start") == 0)
        w->round = 0;
    if (event != NULL && strcmp(event, "run_end") == 0) {
        const char *reason = json_string_value(json_object_get(line, "reason"));
        if (json_is_true(json_object_get(line, "failed")) && w->end_reason[0] == '\0')
            snprintf(w->end_reason, sizeof(w->end_reason), "%s",
                     reason == NULL ? "" : reason);
    }
    if (w->opt.hooks.report != NULL)
        w->opt.hooks.report(w->opt.hooks.ctx, run, line);
}

static void env_record(void *ctx, uint64_t run, uint32_t round, const uint8_t *bytes, size_t n)
{
    const struct sl_world *w = ctx;
    if (w->opt.hooks.record != NULL)
        w->opt.hooks.record(w->opt.hooks.ctx, run, round, bytes, n);
}

static double env_wall_s(void *ctx)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t env_wire_bytes(void *ctx)
{
    return ((const struct sl_world *)ctx)->stats.wire_bytes;
}

/* A job of the coordinator takes virtual time when the faults say so: it runs at one end of
 * that time or the other, and its completion is an event. */
static void submit(void *self, struct sl_job *job)
{
    struct sl_world *w = self;
    struct sl_job_fault f = sl_faults_job(&w->faults);
    if (!f.runs_late)
        job->run(job);
    world_push(w, f.runs_late ? EV_JOB_RUN : EV_JOB_DONE, w->now_us + f.late_us, w->epoch,
               (uint64_t)(uintptr_t)job, 0);
}

static enum sl_code start_coordinator(struct sl_world *w, struct sl_err *err)
{
    struct sl_coordinator_env env = {
        .ctx = w,
        .store = w->store,
        .executor = &w->executor,
        .log = w->opt.log,
        .reply = env_reply,
        .wake_at = env_wake_at,
        .report = env_report,
        .record = env_record,
        .wall_s = env_wall_s,
        .wire_bytes = env_wire_bytes,
        .blas_name = w->opt.blas_name == NULL ? "" : w->opt.blas_name,
        .poll_hold_ms = 0,
        .max_clients = w->n_clients,
        .replay = w->opt.replay,
    };
    w->epoch++;
    return sl_coordinator_new(&env, world_now_ms(w), &w->core, err);
}

/* --- kills
 * --------------------------------------------------------------------------------------
 */

static void kill_coordinator(struct sl_world *w)
{
    if (w->core == NULL)
        return;
    w->stats.coordinator_kills++;
    sl_coordinator_free(w->core);
    w->core = NULL;
    w->alarm++;
    sl_store_mem_crash(w->store, w->faults.power_loss);
    link_coordinator_gone(w);
    if (w->opt.hooks.coordinator != NULL)
        w->opt.hooks.coordinator(w->opt.hooks.ctx, false, w->faults.power_loss);
    world_push(w, EV_COORDINATOR_START,
               w->now_us + sl_faults_between(&w->faults, 100000, 5000000), NONE, 0, 0);
}

static void restart_coordinator(struct sl_world *w)
{
    struct sl_err err;
    enum sl_code rc = start_coordinator(w, &err);
    if (rc != SL_OK) {
        w->core = NULL;
        world_fail(w, rc, err.msg);
        return;
    }
    if (w->opt.hooks.coordinator != NULL)
        w->opt.hooks.coordinator(w->opt.hooks.ctx, true, w->faults.power_loss);
    for (uint32_t i = 0; i < w->n_clients; i++)
        if (w->clients[i].core != NULL)
            clients_connect(&w->clients[i],
                            w->now_us + sl_faults_between(&w->faults, 0, RECONNECT_US));
}

/* --- steps
 * ----------------------------------------------------------------------------------------
 */

static void dispatch(struct sl_world *w, const struct sl_sim_event *e)
{
    struct sl_job *job = (struct sl_job *)(uintptr_t)e->token;
    switch ((enum event_kind)e->kind) {
    case EV_REQUEST:
    case EV_REPLY:
    case EV_RESEND:
    case EV_CUT:
        link_event(w, e);
        break;
    case EV_CONNECT:
    case EV_CLIENT_TIME:
    case EV_CLIENT_START:
    case EV_TRAINED:
        clients_event(w, e);
        break;
    case EV_COORDINATOR_TIME:
        if (w->core != NULL && e->token == w->alarm)
            sl_coordinator_time(w->core, world_now_ms(w));
        break;
    case EV_COORDINATOR_START:
        restart_coordinator(w);
        break;
    case EV_JOB_RUN:
    case EV_JOB_DONE:
        if (w->core == NULL || e->client != w->epoch)
            break; /* of an earlier start: gone with it */
        if (e->kind == EV_JOB_RUN)
            job->run(job);
        job->done(job, job->ctx);
        break;
    }
}

static void after_step(struct sl_world *w)
{
    const struct sl_layout *layout;
    if (w->round_done && w->core != NULL && w->opt.hooks.committed != NULL) {
        size_t n_state;
        const float *values = sl_coordinator_model(w->core, &layout);
        const float *state = sl_coordinator_state(w->core, &n_state);
        w->opt.hooks.committed(w->opt.hooks.ctx, w->round_run, w->round_number, layout,
                               values, state, n_state);
    }
    w->round_done = false;
    const struct sl_kill *kill = sl_faults_step(&w->faults, w->round);
    if (kill != NULL && kill->coordinator)
        kill_coordinator(w);
    else if (kill != NULL)
        clients_kill(w);
    if (w->opt.hooks.stepped != NULL)
        w->opt.hooks.stepped(w->opt.hooks.ctx, w);
}

/* Has every run ended? *ret_failed is the first that failed, 0 = none. */
static bool all_ended(const struct sl_world *w, uint64_t *ret_failed)
{
    uint64_t failed = 0;
    for (size_t i = 0; i < w->opt.n_plans; i++) {
        enum sl_run_state state;
        if (w->core == NULL || !sl_coordinator_finished(w->core, w->runs[i], &state))
            return false;
        if (state == SL_RUN_FAILED && failed == 0)
            failed = w->runs[i];
    }
    *ret_failed = failed;
    return true;
}

enum sl_code sl_world_run(struct sl_world *w, uint64_t max_steps, struct sl_err *err)
{
    uint64_t failed;
    while (!all_ended(w, &failed)) {
        struct sl_sim_event e;
        if (max_steps != 0 && w->stats.steps >= max_steps)
            return sl_err_set(err, SL_E_BUG,
                              "no end after %" PRIu64 " steps, in round %" PRIu32,
                              w->stats.steps, w->round);
        if (!sl_events_pop(&w->events, &e))
            return sl_err_set(err, SL_E_BUG, "nothing left to happen in round %" PRIu32,
                              w->round);
        w->now_us = e.at_us;
        w->stats.steps++;
        dispatch(w, &e);
        after_step(w);
        if (w->failure.code != SL_OK) {
            *err = w->failure;
            return w->failure.code;
        }
    }
    if (failed != 0)
        return sl_err_set(err, SL_E_FAILED, "run %" PRIu64 ": %s", failed, w->end_reason);
    return SL_OK;
}

/* --- life
 * -------------------------------------------------------------------------------------------
 */

static unsigned cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 64 ? 64 : (unsigned)n;
}

static enum sl_code load_plans(struct sl_world *w, struct sl_err *err)
{
    unsigned jobs = w->opt.jobs == 0 ? cores() : w->opt.jobs;
    size_t n_plans = w->opt.n_plans;
    uint64_t largest = 1, largest_state = 1;
    w->training = sl_calloc(n_plans, sizeof(*w->training));
    w->runs = sl_calloc(n_plans, sizeof(*w->runs));
    if (w->training == NULL || w->runs == NULL)
        return sl_err_set(err, SL_E_NOMEM, "plans");
    enum sl_code rc = SL_OK;
    for (size_t i = 0; i < n_plans && rc == SL_OK; i++) {
        rc = sl_training_new(&w->opt.plans[i], jobs, &w->training[i], err);
        if (rc == SL_OK && w->opt.attack != NULL)
            rc = sl_training_attack(w->training[i], w->opt.attack, err);
        if (rc != SL_OK)
            break;
        uint64_t n = sl_training_update_bytes(w->training[i]);
        uint64_t state = sl_training_state_bytes(w->training[i]);
        uint32_t clients = sl_training_partition(w->training[i])->clients;
        largest = n > largest ? n : largest;
        largest_state = state > largest_state ? state : largest_state;
        w->n_clients = clients > w->n_clients ? clients : w->n_clients;
    }
    if (rc == SL_OK)
        rc = sl_vfile_init(&w->file, largest, err);
    if (rc == SL_OK)
        rc = sl_vfile_init(&w->states, largest_state, err);
    if (rc == SL_OK)
        rc = sl_workers_new(jobs, &w->workers, err);
    return rc;
}

static enum sl_code load_models(struct sl_world *w, struct sl_err *err)
{
    const struct sl_plan *rules = &w->opt.plans[0];
    enum sl_code rc = sl_faults_init(&w->faults, rules, err);
    if (rc == SL_OK)
        rc = sl_device_model_init(&w->devices, rules, err);
    if (rc == SL_OK)
        rc = sl_network_model_init(&w->network, rules, err);
    return rc;
}

static enum sl_code enrol_clients(struct sl_world *w, struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    for (uint32_t i = 0; i < w->n_clients && rc == SL_OK; i++) {
        struct sl_client_row row = {.index = i, .state = SL_CLIENT_ENROLLED};
        snprintf(row.name, sizeof(row.name), "client-%05" PRIu32, i);
        for (size_t b = 0; b < SL_KEY_BYTES; b += sizeof(uint64_t)) {
            uint64_t part = sl_splitmix64_at(i, b);
            memcpy(row.key + b, &part, sizeof(part));
        }
        rc = sl_coordinator_approve(w->core, world_now_ms(w), &row, err);
    }
    return rc;
}

static enum sl_code build(struct sl_world *w, struct sl_err *err)
{
    enum sl_code rc = load_plans(w, err);
    if (rc == SL_OK)
        rc = load_models(w, err);
    if (rc == SL_OK)
        rc = sl_store_mem_new(&w->store, err);
    if (rc == SL_OK)
        rc = start_coordinator(w, err);
    if (rc == SL_OK)
        rc = enrol_clients(w, err);
    for (size_t i = 0; i < w->opt.n_plans && rc == SL_OK; i++)
        rc = sl_coordinator_submit(w->core, world_now_ms(w), &w->opt.plans[i],
                                   &w->runs[i], err);
    if (rc == SL_OK)
        rc = clients_init(w, err);
    return rc;
}

enum sl_code sl_world_new(const struct sl_world_options *opt, struct sl_world **ret,
                          struct sl_err *err)
{
    struct sl_world *w = sl_calloc(1, sizeof(*w));
    if (w == NULL)
        return sl_err_set(err, SL_E_NOMEM, "world");
    w->opt = *opt;
    w->file.file.fd = w->states.file.fd = -1;
    w->free_request = NONE;
    w->executor = (struct sl_executor){.submit = submit, .self = w};
    enum sl_code rc = build(w, err);
    if (rc != SL_OK) {
        sl_world_free(w);
        return rc;
    }
    *ret = w;
    return SL_OK;
}

void sl_world_free(struct sl_world *w)
{
    if (w == NULL)
        return;
    if (w->core != NULL)
        sl_coordinator_free(w->core);
    clients_deinit(w);
    sl_workers_free(w->workers);
    link_deinit(w);
    sl_store_mem_free(w->store);
    sl_vfile_deinit(&w->file);
    sl_vfile_deinit(&w->states);
    sl_blob_cache_deinit(&w->blobs);
    sl_network_model_deinit(&w->network);
    sl_device_model_deinit(&w->devices);
    sl_faults_deinit(&w->faults);
    for (size_t i = 0; w->training != NULL && i < w->opt.n_plans; i++)
        sl_training_free(w->training[i]);
    free(w->training);
    free(w->runs);
    sl_events_deinit(&w->events);
    free(w);
}

uint64_t sl_world_now_us(const struct sl_world *w)
{
    return w->now_us;
}

struct sl_world_stats sl_world_stats(const struct sl_world *w)
{
    struct sl_world_stats s = w->stats;
    s.virtual_s = (double)w->now_us * 1e-6;
    return s;
}

struct sl_store *sl_world_store(const struct sl_world *w)
{
    return w->store;
}

const float *sl_world_model(const struct sl_world *w, const struct sl_layout **ret_layout)
{
    return w->core == NULL ? NULL : sl_coordinator_model(w->core, ret_layout);
}

struct sl_world_holdings sl_world_holdings(const struct sl_world *w)
{
    return (struct sl_world_holdings){.requests = w->used_requests,
                                      .regions = sl_vfile_used(&w->file),
                                      .blobs = w->blobs.n,
                                      .events = w->events.n};
}
