/* SPDX-License-Identifier: Apache-2.0 */
/* A run from its plan to its end. Built from the plan alone (model, test set, expected weights), then
 * taken to where the journal says it is: last commit, open round, accepted updates. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/mem.h"
#include "common/model_file.h"
#include "server/core.h"

/* --- building ------------------------------------------------------------------------------------ */

static struct sl_dataset_source source(const struct run *r, enum sl_dataset_split split)
{
    const struct sl_plan *p = &r->plan;
    bool train = split == SL_SPLIT_TRAIN;
    return (struct sl_dataset_source){
        .kind = p->data.dataset,
        .path = r->c->env.data_path != NULL ? r->c->env.data_path : p->data.path,
        .split = split,
        .limit = train ? p->data.limit : p->data.test_limit,
    };
}

/* What each client's update should weigh: its training samples, or 1. */
static enum sl_code expect_weights(struct run *r, const int32_t *labels, size_t n,
                                   uint32_t n_classes, struct sl_err *err)
{
    const struct sl_plan *p = &r->plan;
    struct sl_partition_input in = {
        .labels = labels, .n = n, .n_classes = n_classes, .seed = p->run.seed};
    struct sl_partition part;
    enum sl_code rc = sl_partition_make(&p->data.partition, &in, &part, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "partition");
    r->n_clients = part.clients;
    r->weight = sl_calloc(part.clients, sizeof(*r->weight));
    uint32_t *scratch = sl_calloc(n, sizeof(*scratch));
    if (r->weight == NULL || scratch == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "partition of %" PRIu32 " clients", part.clients);
    for (uint32_t k = 0; rc == SL_OK && k < part.clients; k++) {
        size_t m, train;
        const uint32_t *index = sl_partition_client(&part, k, &m);
        train = m;
        if (p->evaluation.holdout > 0)
            sl_holdout_split(index, m, p->evaluation.holdout, p->run.seed, k, scratch, &train);
        r->weight[k] = p->aggregation.weighting == SL_WEIGHT_UNIFORM ? 1 : train;
    }
    free(scratch);
    sl_partition_deinit(&part);
    return rc;
}

static enum sl_code build_data(struct run *r, uint32_t *ret_classes, struct sl_err *err)
{
    struct sl_dataset_source train = source(r, SL_SPLIT_TRAIN), test = source(r, SL_SPLIT_TEST);
    int32_t *labels;
    size_t n;
    enum sl_code rc = sl_dataset_labels(&train, &labels, &n, ret_classes, err);
    if (rc != SL_OK)
        return rc;
    rc = expect_weights(r, labels, n, *ret_classes, err);
    free(labels);
    test.n_classes = *ret_classes;
    return rc == SL_OK ? sl_dataset_load(&test, &r->test, err) : rc;
}

static enum sl_code build_model(struct run *r, uint32_t n_classes, struct sl_err *err)
{
    const struct sl_plan *p = &r->plan;
    enum sl_code rc = sl_plan_model(p, &r->test, n_classes, &r->model, err);
    if (rc != SL_OK)
        return rc;
    r->n_values = sl_model_layout(r->model)->n_values;
    rc = sl_codec_init(&p->uplink, sl_model_layout(r->model), &r->codec, err);
    if (rc == SL_OK)
        rc = sl_unit_setup(&p->accelerator, &r->unit, err);
    if (rc != SL_OK)
        return rc;
    struct sl_trainer_options o = {.max_batch = EVAL_BATCH,
                                   .unit = r->unit.unit,
                                   .unit_options = sl_unit_setup_options(&r->unit)};
    return sl_trainer_new(r->model, &o, &r->trainer, err);
}

static enum sl_code build_sum(struct run *r, struct sl_err *err)
{
    const struct sl_plan *p = &r->plan;
    uint64_t heaviest = 0;
    for (uint32_t k = 0; k < r->n_clients; k++)
        heaviest = r->weight[k] > heaviest ? r->weight[k] : heaviest;
    if (heaviest > p->aggregation.max_weight)
        return sl_err_set(err, SL_E_RANGE,
                          "a client has %" PRIu64 " samples, aggregation.max_weight is %" PRIu64,
                          heaviest, p->aggregation.max_weight);
    struct sl_sum_bounds b = {.max_abs = p->aggregation.max_abs,
                              .max_weight = p->aggregation.max_weight,
                              .fraction_bits = p->aggregation.fraction_bits};
    for (uint32_t k = 0; k < r->n_clients; k++)
        b.sum_weight += r->weight[k];
    enum sl_code rc = sl_sum_bounds_fit(&b, err);
    if (rc != SL_OK)
        return rc;
    b.sum_weight = sl_sum_capacity(&b); /* clients with own data may bring more than the partition */
    return sl_sum_init(&r->sum, r->n_values, &b, err);
}

static enum sl_code build_policy(struct run *r, struct sl_err *err)
{
    const struct sl_plan *p = &r->plan;
    r->strategy = sl_strategy_find(p->strategy.name);
    r->selection = sl_selection_find(p->selection.policy);
    if (r->strategy == NULL || r->selection == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "strategy %s or policy %s is not available",
                          p->strategy.name, p->selection.policy);
    if (p->selection.path[0] == '\0')
        return SL_OK;
    return sl_index_load(SL_INDEX_SELECTION, p->selection.path, &r->selection_file, err);
}

static enum sl_code build_vectors(struct run *r, struct sl_err *err)
{
    r->n_state = r->strategy->state_values(&r->plan, r->n_values);
    r->values = sl_calloc(r->n_values, sizeof(float));
    r->state = r->n_state > 0 ? sl_calloc(r->n_state, sizeof(float)) : NULL;
    uint32_t most = sl_plan_cohort_size(&r->plan);
    double wanted = (double)most * r->plan.selection.over_select + 1;
    r->n_slots = wanted < r->n_clients ? (uint32_t)wanted : r->n_clients;
    if (strcmp(r->selection->name, "random") != 0)
        r->n_slots = r->n_clients;
    r->uploads = sl_calloc(r->n_slots, sizeof(*r->uploads));
    r->eval.n = r->n_clients;
    r->eval.counts = sl_calloc(r->n_clients, sizeof(*r->eval.counts));
    r->eval.there = sl_calloc(r->n_clients, sizeof(*r->eval.there));
    if (r->values == NULL || r->uploads == NULL ||
        (r->n_state > 0 && r->state == NULL) || r->eval.counts == NULL || r->eval.there == NULL)
        return sl_err_set(err, SL_E_NOMEM, "model of %zu values", r->n_values);
    for (uint32_t i = 0; i < r->n_slots; i++) {
        r->uploads[i].run = r;
        r->uploads[i].position = i;
    }
    return SL_OK;
}

static void refer(const void *data, size_t n, struct sl_blob_ref *ret)
{
    ret->size = n;
    sl_xxh3_128(data, n, &ret->id);
}

static enum sl_code init_values(struct run *r, struct sl_err *err)
{
    const struct sl_plan *p = &r->plan;
    const struct sl_layout *layout = sl_model_layout(r->model);
    switch (p->model.init) {
    case SL_INIT_UNIFORM:
        sl_model_init_uniform(r->model, p->run.seed, r->values);
        break;
    case SL_INIT_SPLITMIX:
        sl_model_init_splitmix(r->model, p->model.init_seed, p->model.init_gain, r->values);
        break;
    case SL_INIT_FILE: {
        enum sl_code rc = sl_model_file_load(p->model.init_path, layout, r->values, err);
        if (rc != SL_OK)
            return sl_err_wrap(err, rc, "model.init");
        break;
    }
    }
    sl_model_digest(layout, r->values, r->digest);
    refer(r->values, r->n_values * sizeof(float), &r->model_ref);
    return SL_OK;
}

enum sl_code run_build(struct sl_coordinator *c, uint64_t id, const struct sl_plan *plan,
                       struct run **ret, struct sl_err *err)
{
    struct run *r = sl_calloc(1, sizeof(*r));
    if (r == NULL)
        return sl_err_set(err, SL_E_NOMEM, "run");
    r->c = c;
    r->id = id;
    size_t n;
    uint32_t n_classes = 0;
    enum sl_code rc = sl_plan_canonical(plan, &r->plan_text, &n, err);
    if (rc == SL_OK)
        rc = sl_plan_parse(r->plan_text, n, "plan", NULL, 0, &r->plan, err);
    if (rc == SL_OK) {
        refer(r->plan_text, n, &r->plan_ref);
        rc = build_policy(r, err);
    }
    if (rc == SL_OK)
        rc = build_data(r, &n_classes, err);
    if (rc == SL_OK)
        rc = build_model(r, n_classes, err);
    if (rc == SL_OK)
        rc = build_sum(r, err);
    if (rc == SL_OK)
        rc = build_vectors(r, err);
    if (rc == SL_OK)
        rc = init_values(r, err);
    if (rc != SL_OK) {
        run_free(r);
        return rc;
    }
    *ret = r;
    return SL_OK;
}

void run_free(struct run *r)
{
    if (r == NULL)
        return;
    while (r->checks != NULL) {
        struct check *next = r->checks->next;
        free(r->checks);
        r->checks = next;
    }
    for (uint32_t i = 0; r->uploads != NULL && i < r->n_slots; i++)
        free(r->uploads[i].have);
    free(r->uploads);
    free(r->eval.counts);
    free(r->eval.there);
    free(r->values);
    sl_codec_deinit(&r->codec);
    free(r->state);
    free(r->weight);
    free(r->plan_text);
    sl_round_deinit(&r->round);
    sl_sum_deinit(&r->sum);
    sl_trainer_free(r->trainer);
    sl_model_free(r->model);
    sl_dataset_deinit(&r->test);
    sl_index_table_deinit(&r->selection_file);
    sl_plan_deinit(&r->plan);
    free(r);
}

/* --- where it stands ----------------------------------------------------------------------------- */

bool run_due(const struct run *r, uint32_t round)
{
    uint32_t every = r->plan.run.eval_every;
    return round + 1 == r->plan.run.rounds || (every > 0 && (round + 1) % every == 0);
}

bool run_asks_eval(const struct run *r)
{
    return r->plan.evaluation.where != SL_EVAL_COORDINATOR && r->round.number > 0 &&
           run_due(r, r->round.number - 1);
}

bool run_idle(const struct run *r)
{
    return !r->work.busy && r->checks == NULL;
}

struct run_entry *run_entry_of(struct sl_coordinator *c, uint64_t id)
{
    for (size_t i = 0; i < c->n_runs; i++)
        if (c->runs[i].id == id)
            return &c->runs[i];
    return NULL;
}

static bool set_state(struct run *r, enum sl_run_state state, const char *reason)
{
    struct sl_coordinator *c = r->c;
    struct sl_err err;
    enum sl_code rc = c->env.store->ops->set_run_state(c->env.store, r->id, state, reason, &err);
    if (rc != SL_OK) {
        core_fault(c, rc, &err);
        return false;
    }
    struct run_entry *e = run_entry_of(c, r->id);
    e->state = state;
    snprintf(e->reason, sizeof(e->reason), "%s", reason);
    return true;
}

void run_report(struct run *r, json_t *line)
{
    r->c->env.report(r->c->env.ctx, r->id, line);
}

/* To the store, then out. Steals line. false: the store refused it. */
static bool report_line(struct run *r, json_t *line)
{
    struct sl_coordinator *c = r->c;
    struct sl_err err;
    char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17));
    enum sl_code rc = text == NULL ? sl_err_set(&err, SL_E_NOMEM, "report")
                                   : c->env.store->ops->put_report(c->env.store, r->id, text, &err);
    free(text);
    if (rc != SL_OK)
        core_fault(c, rc, &err);
    else
        run_report(r, line);
    json_decref(line);
    return rc == SL_OK;
}

static void hex_digest(const uint8_t digest[SL_DIGEST_BYTES], char ret[SL_DIGEST_HEX])
{
    sl_hex(digest, SL_DIGEST_BYTES, ret);
}

static bool report_start(struct run *r)
{
    char plan[SL_DIGEST_HEX];
    uint8_t digest[SL_DIGEST_BYTES];
    sl_blake2b_256(r->plan_text, r->plan_ref.size, digest);
    hex_digest(digest, plan);
    return report_line(r, json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:s, s:s}", "event", "run_start",
                             "run", (json_int_t)r->id, "name", r->plan.run.name, "plan_digest",
                             plan, "seed", (json_int_t)r->plan.run.seed, "clients",
                             (json_int_t)r->n_clients, "parameters", (json_int_t)r->n_values,
                             "version", SL_VERSION, "blas", r->c->env.blas_name));
}

struct history {
    struct run *r;
    bool start;
};

/* A line of the stored report: what was counted so far. */
static enum sl_code recall(void *ctx, const char *json)
{
    struct history *h = ctx;
    json_t *line = json_loads(json, 0, NULL);
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event != NULL && strcmp(event, "run_start") == 0)
        h->start = true;
    if (event != NULL && strcmp(event, "run_end") == 0) {
        const char *reason = json_string_value(json_object_get(line, "reason"));
        h->r->end_reported = true;
        h->r->failed = json_is_true(json_object_get(line, "failed"));
        snprintf(h->r->end_reason, sizeof(h->r->end_reason), "%s", reason != NULL ? reason : "");
    }
    if (event != NULL && strcmp(event, "round") == 0) {
        h->r->bytes_up += (uint64_t)json_integer_value(json_object_get(line, "bytes_up"));
        h->r->bytes_down += (uint64_t)json_integer_value(json_object_get(line, "bytes_down"));
        h->r->wall_s += json_number_value(json_object_get(line, "wall_s"));
        const json_t *a = json_object_get(line, "accuracy");
        if (json_is_number(a)) {
            h->r->has_accuracy = true;
            h->r->accuracy = json_number_value(a);
            h->r->loss = json_number_value(json_object_get(line, "loss"));
        }
    }
    json_decref(line);
    return SL_OK;
}

/* --- end ------------------------------------------------------------------------------------------ */

static json_t *client_eval_json(const struct run *r)
{
    uint64_t samples = 0, correct = 0;
    double loss = 0, mean = 0;
    uint32_t n = 0;
    json_t *list = json_array();
    for (uint32_t k = 0; k < r->eval.n; k++) {
        const struct sl_eval_counts *e = &r->eval.counts[k];
        if (!r->eval.there[k] || e->samples == 0)
            continue;
        samples += e->samples;
        correct += e->correct;
        loss += e->loss_sum;
        mean += (double)e->correct / (double)e->samples;
        n++;
        json_array_append_new(list, json_pack("{s:I, s:I, s:f}", "client", (json_int_t)k, "samples",
                                              (json_int_t)e->samples, "accuracy",
                                              (double)e->correct / (double)e->samples));
    }
    if (n == 0) {
        json_decref(list);
        return json_null();
    }
    return json_pack("{s:I, s:f, s:f, s:f, s:o}", "samples", (json_int_t)samples, "accuracy",
                     (double)correct / (double)samples, "loss", loss / (double)samples,
                     "mean_client_accuracy", mean / n, "clients", list);
}

static json_t *end_json(const struct run *r)
{
    char model[SL_DIGEST_HEX];
    hex_digest(r->digest, model);
    json_t *line = json_pack(
        "{s:s, s:I, s:I, s:o, s:o, s:I, s:I, s:f, s:s, s:s, s:b}", "event", "run_end", "run",
        (json_int_t)r->id, "rounds", (json_int_t)r->next_round, "accuracy",
        r->has_accuracy ? json_real(r->accuracy) : json_null(), "loss",
        r->has_accuracy ? json_real(r->loss) : json_null(), "bytes_up", (json_int_t)r->bytes_up,
        "bytes_down", (json_int_t)r->bytes_down, "wall_s", r->wall_s, "model_digest", model,
        "reason", r->end_reason, "failed", r->failed);
    if (line != NULL && r->plan.evaluation.where != SL_EVAL_COORDINATOR)
        json_object_set_new(line, "client_eval", client_eval_json(r));
    return line;
}

/* The line of the report, then the state; a kill between them is mended by `restore`, a refusal of the
 * store by run_retry. */
static void put_end(struct run *r)
{
    r->end_reported = r->end_reported || report_line(r, end_json(r));
    if (r->end_reported && !r->ended)
        r->ended = set_state(r, r->failed ? SL_RUN_FAILED : SL_RUN_DONE, r->end_reason);
}

void run_end(struct run *r, bool failed, const char *reason)
{
    upload_close(r);
    r->phase = RUN_OVER;
    r->failed = failed;
    if (reason != r->end_reason)
        snprintf(r->end_reason, sizeof(r->end_reason), "%s", reason);
    put_end(r);
    sl_log_write(r->c->env.log, failed ? SL_LOG_ERROR : SL_LOG_INFO, "run %" PRIu64 ": %s", r->id,
                 r->end_reason);
    core_serve(r->c);
    r->c->env.wake_at(r->c->env.ctx, r->c->now_ms); /* for the next of the queue */
}

/* All rounds are done: the clients measure the final model, if the plan wants it. */
static void finish(struct run *r, const char *reason)
{
    snprintf(r->end_reason, sizeof(r->end_reason), "%s", reason);
    if (r->plan.evaluation.where == SL_EVAL_COORDINATOR || r->plan.evaluation.holdout <= 0) {
        run_end(r, false, reason);
        return;
    }
    memset(r->eval.there, 0, r->eval.n * sizeof(*r->eval.there));
    memset(r->eval.counts, 0, r->eval.n * sizeof(*r->eval.counts));
    for (uint32_t k = 0; k < r->eval.n; k++)
        if (sl_registry_at(&r->c->registry, k) == NULL)
            r->eval.there[k] = true; /* nobody to ask */
    r->phase = RUN_CLIENT_EVAL;
    r->eval_deadline_ms = r->c->now_ms + (uint64_t)(r->plan.selection.deadline_s * 1000);
    core_serve(r->c);
}

/* --- rounds --------------------------------------------------------------------------------------- */

/* Members of a recorded round: those whose updates went in. */
static bool recorded_members(const struct run *r, uint32_t round, uint32_t *ret, size_t *ret_n)
{
    size_t i, j;
    json_t *line, *v;
    json_array_foreach(r->c->env.replay, i, line)
    {
        const char *event = json_string_value(json_object_get(line, "event"));
        if (event == NULL || strcmp(event, "round") != 0 ||
            json_integer_value(json_object_get(line, "round")) != (json_int_t)round)
            continue;
        size_t n = 0;
        json_array_foreach(json_object_get(line, "included"), j, v)
        {
            json_int_t k = json_integer_value(v);
            if (k >= 0 && k < (json_int_t)r->n_clients && n < r->n_slots)
                ret[n++] = (uint32_t)k;
        }
        *ret_n = n;
        return n > 0;
    }
    return false;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static enum sl_code draw_cohort(struct run *r, uint32_t *ret, size_t *ret_n, struct sl_err *err)
{
    uint32_t *candidates = sl_calloc(r->n_clients, sizeof(*candidates));
    if (candidates == NULL)
        return sl_err_set(err, SL_E_NOMEM, "cohort");
    struct sl_selection_input in = {.plan = &r->plan,
                                    .round = r->next_round,
                                    .candidates = candidates,
                                    .n_candidates = sl_registry_candidates(&r->c->registry,
                                                                           r->n_clients, candidates),
                                    .file = &r->selection_file};
    double wanted = (double)sl_plan_cohort_size(&r->plan) * r->plan.selection.over_select;
    in.n_wanted = (size_t)wanted + ((double)(size_t)wanted < wanted ? 1 : 0);
    if (in.n_wanted > in.n_candidates)
        in.n_wanted = in.n_candidates;
    enum sl_code rc = SL_OK;
    if (r->c->env.replay != NULL) {
        if (!recorded_members(r, r->next_round, ret, ret_n))
            rc = sl_err_set(err, SL_E_INPUT, "--replay: the record has no round %" PRIu32,
                            r->next_round);
        else
            qsort(ret, *ret_n, sizeof(*ret), ascending);
    } else if (in.n_candidates == 0) {
        rc = sl_err_set(err, SL_E_FAILED, "no enrolled client is left");
    } else {
        rc = r->selection->select(&in, ret, ret_n, err);
    }
    free(candidates);
    return rc;
}

static struct sl_round_cfg round_cfg(const struct run *r, size_t n_members)
{
    double quorum = r->plan.selection.quorum * (double)n_members;
    uint32_t q = (uint32_t)quorum;
    if ((double)q < quorum)
        q++;
    bool over = r->plan.selection.over_select > 1.0 && r->c->env.replay == NULL;
    uint32_t target = over ? sl_plan_cohort_size(&r->plan) : 0;
    if (target > n_members)
        target = 0;
    return (struct sl_round_cfg){.target = target,
                                 .quorum = q < 1 ? 1 : q,
                                 .deadline_ms = (uint64_t)(r->plan.selection.deadline_s * 1000),
                                 .max_retries = r->plan.run.max_retries};
}

static void begin_counting(struct run *r, uint64_t spent_ms)
{
    struct sl_coordinator *c = r->c;
    r->opened_ms = c->now_ms > spent_ms ? c->now_ms - spent_ms : 0;
    r->journalled_ms = c->now_ms;
    r->wall_open = c->env.wall_s(c->env.ctx);
    r->wire_open = c->env.wire_bytes(c->env.ctx);
    r->next_order = 0;
    r->weight_in = 0;
    r->work.stepped = false;
    sl_sum_clear(&r->sum);
    for (uint32_t i = 0; i < r->n_slots; i++)
        upload_reset(&r->uploads[i]);
    memset(r->eval.there, 0, r->eval.n * sizeof(*r->eval.there));
    memset(r->eval.counts, 0, r->eval.n * sizeof(*r->eval.counts));
    r->phase = RUN_OPEN;
}

static void open_round(struct run *r)
{
    struct sl_coordinator *c = r->c;
    struct sl_err err;
    uint32_t *members = sl_calloc(r->n_clients, sizeof(*members));
    size_t n = 0;
    enum sl_code rc = members == NULL ? sl_err_set(&err, SL_E_NOMEM, "cohort")
                                      : draw_cohort(r, members, &n, &err);
    if (rc == SL_OK && n > r->n_slots)
        rc = sl_err_set(&err, SL_E_BUG, "cohort of %zu for %" PRIu32 " slots", n, r->n_slots);
    if (rc != SL_OK) {
        free(members);
        run_end(r, true, err.msg);
        return;
    }
    struct sl_round_cfg cfg = round_cfg(r, n);
    rc = c->env.store->ops->round_open(c->env.store, r->id, r->next_round, 0, members, n,
                                       cfg.deadline_ms, &err);
    if (rc == SL_OK)
        rc = sl_round_open(&r->round, &cfg, r->next_round, 0, members, n, c->now_ms,
                           cfg.deadline_ms, &err);
    free(members);
    if (rc != SL_OK) {
        core_fault(c, rc, &err);
        return;
    }
    begin_counting(r, 0);
    sl_log_write(c->env.log, SL_LOG_DEBUG, "round %" PRIu32 ": %zu clients", r->next_round, n);
    core_serve(c);
}

static bool enough_clients(const struct run *r)
{
    uint32_t want = r->plan.run.min_clients == 0 ? r->n_clients : r->plan.run.min_clients;
    uint32_t n = 0;
    for (uint32_t k = 0; k < r->n_clients && n < want; k++)
        n += sl_registry_at(&r->c->registry, k) != NULL;
    return n >= want;
}

static bool eval_complete(const struct run *r)
{
    for (uint32_t k = 0; k < r->eval.n; k++)
        if (!r->eval.there[k])
            return false;
    return true;
}

void run_proceed(struct run *r)
{
    struct sl_coordinator *c = r->c;
    if (r->phase == RUN_CLIENT_EVAL) {
        if (eval_complete(r) || c->now_ms >= r->eval_deadline_ms)
            run_end(r, false, r->end_reason);
        return;
    }
    if (r->phase != RUN_WAITS)
        return;
    bool target = r->plan.run.target_accuracy > 0 && r->has_accuracy &&
                  r->accuracy >= r->plan.run.target_accuracy;
    if (target || r->next_round >= r->plan.run.rounds) {
        finish(r, target ? "target accuracy reached" : "all rounds done");
        return;
    }
    if (c->paused || c->draining || (!r->started && !enough_clients(r)))
        return;
    if (!r->started)
        r->started = report_start(r);
    if (r->started)
        open_round(r);
}

/* --- going on after a restart --------------------------------------------------------------------- */

static enum sl_code restore_model(struct run *r, struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    struct sl_last_commit last = {0};
    enum sl_code rc = s->ops->load_last_commit(s, r->id, &last, err);
    if (rc != SL_OK || !last.present)
        return rc;
    rc = s->ops->checkpoint_read(s, last.checkpoint, sl_model_layout(r->model), r->values, err);
    if (rc == SL_OK) {
        sl_model_digest(sl_model_layout(r->model), r->values, r->digest);
        if (memcmp(r->digest, last.model_digest, SL_DIGEST_BYTES) != 0)
            rc = sl_err_set(err, SL_E_STATE, "checkpoint %s is not the model of round %" PRIu32,
                            last.checkpoint, last.round);
    }
    if (rc == SL_OK && last.state_bytes != r->n_state * sizeof(float))
        rc = sl_err_set(err, SL_E_STATE, "server state of %zu bytes, %zu expected",
                        last.state_bytes, r->n_state * sizeof(float));
    if (rc == SL_OK && r->n_state > 0)
        memcpy(r->state, last.state, last.state_bytes);
    free(last.state);
    if (rc == SL_OK) {
        refer(r->values, r->n_values * sizeof(float), &r->model_ref);
        r->next_round = last.round + 1;
    }
    return rc;
}

static enum sl_code reopen(struct run *r, const struct sl_open_round *open, struct sl_err *err)
{
    struct sl_coordinator *c = r->c;
    uint32_t *members = sl_calloc(open->n_members, sizeof(*members));
    if (members == NULL)
        return sl_err_set(err, SL_E_NOMEM, "round");
    for (size_t i = 0; i < open->n_members; i++)
        members[i] = open->members[i].client;
    struct sl_round_cfg cfg = round_cfg(r, open->n_members);
    uint64_t left = open->remaining_ms < cfg.deadline_ms ? open->remaining_ms : cfg.deadline_ms;
    enum sl_code rc = sl_round_open(&r->round, &cfg, open->round, open->attempt, members,
                                    open->n_members, c->now_ms, left, err);
    free(members);
    if (rc != SL_OK)
        return rc;
    begin_counting(r, cfg.deadline_ms - left);
    /* in the order of acceptance, which over-selection cares for */
    for (uint32_t order = 0; rc == SL_OK && order < open->n_members; order++)
        for (size_t i = 0; rc == SL_OK && i < open->n_members; i++)
            if (open->members[i].accepted && open->members[i].order == order)
                rc = upload_restore(r, (uint32_t)i, &open->members[i], err);
    return rc;
}

static enum sl_code restore(struct run *r, struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    struct history h = {.r = r};
    enum sl_code rc = s->ops->each_report(s, r->id, recall, &h, err);
    if (rc == SL_OK)
        rc = restore_model(r, err);
    r->started = h.start;
    if (rc != SL_OK)
        return rc;
    if (r->end_reported) { /* killed between the line and the state */
        r->phase = RUN_OVER;
        put_end(r);
        return SL_OK;
    }
    bool present = false;
    struct sl_open_round open = {0};
    rc = s->ops->load_open_round(s, r->id, &present, &open, err);
    if (rc == SL_OK && present && open.round == r->next_round && open.n_members <= r->n_slots) {
        sl_log_write(r->c->env.log, SL_LOG_INFO,
                     "run %" PRIu64 " goes on with round %" PRIu32 ", attempt %" PRIu32, r->id,
                     open.round, open.attempt);
        rc = reopen(r, &open, err);
    }
    free(open.members);
    return rc;
}

/* Makes the run of an entry of the queue; SL_E_STATE when the journal contradicts itself. */
static enum sl_code prepare(struct sl_coordinator *c, struct run_entry *e, struct run **ret,
                            struct sl_err *err)
{
    struct sl_plan plan;
    enum sl_code rc = sl_plan_parse(e->plan_text, strlen(e->plan_text), "stored plan", NULL, 0,
                                    &plan, err);
    if (rc != SL_OK)
        return rc;
    struct run *r = NULL;
    rc = run_build(c, e->id, &plan, &r, err);
    sl_plan_deinit(&plan);
    if (rc == SL_OK)
        rc = c->env.store->ops->spool_open(c->env.store, r->id, r->n_slots,
                                           r->codec.n_bytes, err);
    if (rc != SL_OK) {
        run_free(r);
        return rc;
    }
    *ret = r;
    return SL_OK;
}

static enum sl_code start(struct sl_coordinator *c, struct run_entry *e, struct sl_err *err)
{
    struct run *r;
    bool resumed = e->state == SL_RUN_ACTIVE;
    enum sl_code rc = prepare(c, e, &r, err);
    if (rc != SL_OK)
        return rc;
    run_free(c->run);
    c->run = r;
    set_state(r, SL_RUN_ACTIVE, "");
    if (resumed)
        rc = restore(r, err);
    if (rc != SL_OK) { /* nothing of it is to go on */
        r->phase = RUN_OVER;
        r->ended = true;
        return rc;
    }
    if (r->phase == RUN_OPEN) {
        struct sl_round_event ev = {.kind = SL_ROUND_EV_TIME, .now_ms = c->now_ms};
        commit_act(r, sl_round_step(&r->round, &ev));
    }
    if (r->phase == RUN_OPEN || r->phase == RUN_CLOSING)
        upload_advance(r);
    run_proceed(r);
    return SL_OK;
}

static struct run_entry *next_entry(struct sl_coordinator *c)
{
    for (size_t i = 0; i < c->n_runs; i++)
        if (c->runs[i].state == SL_RUN_ACTIVE)
            return &c->runs[i];
    for (size_t i = 0; i < c->n_runs; i++)
        if (c->runs[i].state == SL_RUN_QUEUED)
            return &c->runs[i];
    return NULL;
}

/* A run whose data or files are gone fails; the queue goes on. */
static enum sl_code drop_entry(struct sl_coordinator *c, struct run_entry *e,
                               const struct sl_err *why, struct sl_err *err)
{
    sl_log_write(c->env.log, SL_LOG_ERROR, "run %" PRIu64 " can't be started: %s", e->id,
                 why->msg);
    enum sl_code rc =
        c->env.store->ops->set_run_state(c->env.store, e->id, SL_RUN_FAILED, why->msg, err);
    if (rc == SL_OK) {
        e->state = SL_RUN_FAILED;
        snprintf(e->reason, sizeof(e->reason), "%.*s", (int)sizeof(e->reason) - 1, why->msg);
    }
    return rc;
}

enum sl_code run_take_up(struct sl_coordinator *c, struct sl_err *err)
{
    if (c->run != NULL && (c->run->phase != RUN_OVER || !c->run->ended || !run_idle(c->run)))
        return SL_OK; /* its jobs still point to it */
    for (struct run_entry *e; (e = next_entry(c)) != NULL;) {
        struct sl_err why;
        enum sl_code rc = start(c, e, &why);
        if (rc == SL_OK)
            return SL_OK;
        if (rc == SL_E_STATE || rc == SL_E_NOMEM || rc == SL_E_NOSPACE || rc == SL_E_IO) {
            *err = why;
            return sl_err_wrap(err, rc, "run %" PRIu64, e->id);
        }
        rc = drop_entry(c, e, &why, err);
        if (rc != SL_OK)
            return rc;
    }
    return SL_OK;
}

void run_retry(struct run *r)
{
    switch (r->phase) {
    case RUN_OVER:
        if (!r->ended)
            put_end(r);
        break;
    case RUN_FINALISES:
        if (!r->work.busy)
            commit_start(r);
        break;
    case RUN_OPEN:
    case RUN_CLOSING:
        upload_advance(r);
        break;
    case RUN_WAITS:
    case RUN_CLIENT_EVAL:
        run_proceed(r);
        break;
    }
}

enum sl_code sl_coordinator_submit(struct sl_coordinator *c, uint64_t now_ms,
                                   const struct sl_plan *plan, uint64_t *ret_run,
                                   struct sl_err *err)
{
    c->now_ms = now_ms;
    struct run *probe;
    enum sl_code rc = run_build(c, 0, plan, &probe, err); /* finds all that can be wrong */
    if (rc != SL_OK)
        return rc;
    struct sl_run_row row = {.state = SL_RUN_QUEUED,
                             .plan_text = probe->plan_text,
                             .plan_bytes = probe->plan_ref.size};
    struct run_entry *more = realloc(c->runs, (c->n_runs + 1) * sizeof(*more));
    uint64_t id = 0;
    if (more == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "queue");
    else
        c->runs = more;
    if (rc == SL_OK)
        rc = c->env.store->ops->put_run(c->env.store, &row, &id, err);
    if (rc == SL_OK) {
        struct run_entry *e = &c->runs[c->n_runs++];
        *e = (struct run_entry){.id = id, .state = SL_RUN_QUEUED, .plan_text = probe->plan_text};
        snprintf(e->name, sizeof(e->name), "%s", plan->run.name);
        probe->plan_text = NULL;
        *ret_run = id;
    }
    run_free(probe);
    if (rc == SL_OK)
        rc = run_take_up(c, err);
    c->env.wake_at(c->env.ctx, c->now_ms + TICK_MS);
    return rc;
}
