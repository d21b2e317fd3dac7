/* SPDX-License-Identifier: Apache-2.0 */
/* Calibrations (Dong et al. 2022, SphereFed): every enrolled client is asked for the statistics of its
 * features, the sum gives the best head in closed form, and of the old and the new head the one that does
 * better on the test set is published. A calibration is a round with a number of its own kind
 * (SL_ROUND_CALIBRATION): cohort, deadline, transfers, journal and restarts are those of rounds. Statistics
 * stay in the spool until the close and are added in client order, which fixes every bit of the sum. They
 * stay there after it, too: another calibration of the same model asks only who has not answered yet, and
 * who has left since is out of the sum, which is made anew. Training uses their slots again. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash_point.h"
#include "common/mem.h"
#include "server/core.h"

bool calibrate_under_way(const struct run *r)
{
    return r->round.number >= SL_ROUND_CALIBRATION;
}

uint64_t calibrate_slot_bytes(const struct run *r)
{
    return r->codec.n_bytes > r->calib.bytes ? r->codec.n_bytes : r->calib.bytes;
}

/* --- statistics of a client ------------------------------------------------------------------------- */

/* Of all clients, as far as is known. */
static uint64_t all_samples(const struct run *r)
{
    uint64_t n = 0;
    for (uint32_t k = 0; k < r->n_clients; k++)
        n += meta_samples(r, k);
    return n;
}

enum sl_code calibrate_check_meta(const struct run *r, uint32_t client,
                                  const struct sl_update_meta *m, struct sl_err *err)
{
    double most = r->plan.calibration.max_share * (double)all_samples(r);
    uint64_t own = meta_samples(r, client);
    if (m->weight != m->samples || m->weight == 0 || m->weight > own)
        return sl_err_set(err, SL_E_REJECTED, "statistics of %" PRIu64 " samples (1 to %" PRIu64
                          " enrolled)", m->weight, own);
    if ((double)m->weight > most)
        return sl_err_set(err, SL_E_REJECTED, "statistics of %" PRIu64
                          " samples (%.0f is a client's largest share)", m->weight, most);
    return SL_OK;
}

enum sl_code calibrate_check(const struct run *r, uint32_t client, const struct sl_update_meta *m,
                             const uint8_t *bytes, size_t n, struct sl_err *err)
{
    struct sl_calib c;
    struct sl_calib_limits limits = {.max_samples = meta_samples(r, client),
                                     .exact = !meta_own_data(r, client)};
    enum sl_code rc = sl_calib_init(&c, &r->calib.shape, err);
    if (rc == SL_OK)
        rc = sl_calib_read(&c, bytes, n, err);
    if (rc == SL_OK && c.n != m->weight)
        rc = sl_err_set(err, SL_E_REJECTED, "statistics of %" PRIu64 " samples, said were %" PRIu64,
                        c.n, m->weight);
    if (rc == SL_OK)
        rc = sl_calib_check(&c, &limits, err);
    sl_calib_deinit(&c);
    return rc;
}

/* --- opening ----------------------------------------------------------------------------------------- */

static bool at_end(const struct run *r)
{
    return r->next_round >= r->plan.run.rounds || run_target_reached(r);
}

static bool due(const struct run *r)
{
    if (r->calib.bytes == 0 || r->next_round == 0)
        return false;
    if (r->calib.wanted > r->calib.number)
        return true;
    if (r->calib.at == r->next_round)
        return false;
    uint32_t every = r->plan.calibration.every;
    return (at_end(r) && r->plan.calibration.at_end) ||
           (every > 0 && r->next_round % every == 0);
}

enum sl_code calibrate_ready(struct run *r, struct sl_err *err)
{
    if (r->calib.values == NULL)
        r->calib.values = sl_calloc(r->n_all, sizeof(float));
    if (r->calib.values == NULL)
        return sl_err_set(err, SL_E_NOMEM, "model of %zu values", r->n_all);
    if (r->n_slots >= r->n_clients)
        return SL_OK;
    struct upload *more = realloc(r->uploads, r->n_clients * sizeof(*more));
    if (more == NULL)
        return sl_err_set(err, SL_E_NOMEM, "calibration of %" PRIu32 " clients", r->n_clients);
    r->uploads = more;
    for (uint32_t i = r->n_slots; i < r->n_clients; i++)
        r->uploads[i] = (struct upload){.run = r, .position = i};
    r->n_slots = r->n_clients;
    return SL_OK;
}

static enum sl_code open_calibration(struct run *r, struct sl_err *err)
{
    struct sl_coordinator *c = r->c;
    uint32_t number = r->calib.number | SL_ROUND_CALIBRATION;
    uint32_t *members = sl_calloc(r->n_clients, sizeof(*members));
    if (members == NULL)
        return sl_err_set(err, SL_E_NOMEM, "calibration");
    size_t n = sl_registry_candidates(&c->registry, r->n_clients, members);
    struct sl_round_cfg cfg = run_round_cfg(r, n);
    cfg.target = 0;
    cfg.quorum = 1;
    cfg.probe_ms = 0;
    enum sl_code rc = calibrate_ready(r, err);
    if (rc == SL_OK && n == 0)
        rc = sl_err_set(err, SL_E_FAILED, "no enrolled client is left");
    if (rc == SL_OK)
        rc = c->env.store->ops->round_open(c->env.store, r->id, number, 0, members, n,
                                           cfg.deadline_ms, err);
    if (rc == SL_OK)
        rc = sl_round_open(&r->round, &cfg, number, 0, members, n, c->now_ms, cfg.deadline_ms,
                           err);
    free(members);
    return rc;
}

/* Are the bytes in the spool what the journal names? */
static enum sl_code check_name(const struct run *r, const struct sl_member_row *row,
                               struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    size_t n = (size_t)r->calib.bytes;
    struct sl_blob_id found;
    uint8_t *bytes = malloc(n);
    if (bytes == NULL)
        return sl_err_set(err, SL_E_NOMEM, "no memory for statistics");
    enum sl_code rc = s->ops->spool_read(s, row->slot, 0, bytes, n, err);
    if (rc == SL_OK)
        sl_xxh3_128(bytes, n, &found);
    free(bytes);
    if (rc == SL_OK && !sl_blob_id_equal(&found, &row->blob.id))
        rc = sl_err_set(err, SL_E_REJECTED, "damaged in the spool");
    return rc;
}

/* Journals them for the open calibration, as the answer of the member at this position. */
static enum sl_code take_kept(struct run *r, uint32_t position, const struct sl_member_row *row,
                              struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    struct upload *u = &r->uploads[position];
    struct sl_member_row again = *row;
    again.start = r->round.number;
    again.order = r->next_order;
    enum sl_code rc = s->ops->accept(s, r->id, r->round.number,
                                     sl_round_remaining_ms(&r->round, r->c->now_ms), &again, err);
    if (rc != SL_OK)
        return rc;
    upload_reset(u);
    u->blob = again.blob;
    u->meta = again.meta;
    u->kept = true;
    upload_take_up(r, position, &again);
    return SL_OK;
}

static enum sl_code keep_statistics(struct run *r, const struct sl_member_row *row,
                                    struct sl_err *err)
{
    const struct sl_member *m = sl_round_member(&r->round, row->client);
    const struct sl_client_entry *e = sl_registry_at(&r->c->registry, row->client);
    if (!row->accepted || m == NULL || e == NULL ||
        memcmp(e->row.key, row->key, SL_KEY_BYTES) != 0)
        return SL_OK; /* left, or another one has come in its place */
    uint32_t position = (uint32_t)(m - r->round.members);
    struct upload *u = &r->uploads[position];
    if (m->state == SL_MEMBER_ACCEPTED) {
        u->kept = sl_blob_id_equal(&u->blob.id, &row->blob.id);
        return SL_OK;
    }
    enum sl_code rc = calibrate_check_meta(r, row->client, &row->meta, err);
    if (rc == SL_OK)
        rc = check_name(r, row, err);
    if (rc == SL_OK)
        rc = take_kept(r, position, row, err);
    if (rc == SL_E_REJECTED) /* by what is allowed now, or damaged: the client is asked */
        sl_log_write(r->c->env.log, SL_LOG_INFO, "statistics of client %" PRIu32
                     " are not kept: %s", row->client, err->msg);
    return rc == SL_E_REJECTED ? SL_OK : rc;
}

enum sl_code calibrate_keep(struct run *r, struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    struct sl_open_round last = {0};
    bool present = false;
    if (r->calib.kept_at != r->next_round)
        return SL_OK; /* of another model, and overwritten */
    enum sl_code rc = s->ops->load_calibration(
        s, r->id, (r->calib.number - 1) | SL_ROUND_CALIBRATION, &present, &last, err);
    for (size_t i = 0; rc == SL_OK && present && i < last.n_members; i++)
        rc = keep_statistics(r, &last.members[i], err);
    free(last.members);
    return rc;
}

bool calibrate_proceed(struct run *r)
{
    struct sl_coordinator *c = r->c;
    struct sl_err err;
    if (!due(r) || c->draining)
        return false;
    enum sl_code rc = open_calibration(r, &err);
    if (rc == SL_E_FAILED) {
        sl_log_write(c->env.log, SL_LOG_WARN, "run %" PRIu64 ": calibration: %s", r->id, err.msg);
        r->calib.wanted = r->calib.number;
        r->calib.at = r->next_round;
        return false;
    }
    if (rc != SL_OK) {
        core_fault(c, rc, &err);
        return true;
    }
    run_begin_counting(r, 0);
    rc = calibrate_keep(r, &err);
    if (rc != SL_OK) /* who is not kept is asked */
        core_fault(c, rc, &err);
    sl_log_write(c->env.log, SL_LOG_INFO, "run %" PRIu64 ": calibration %" PRIu32
                 ": %zu clients, statistics of %zu are there", r->id, r->calib.number,
                 r->round.n_members, r->round.n_accepted);
    upload_advance(r);
    poll_serve(c);
    return true;
}

enum sl_code sl_coordinator_calibrate(struct sl_coordinator *c, uint64_t now_ms, struct sl_err *err)
{
    c->now_ms = now_ms;
    enum sl_code rc = c->run == NULL ? run_take_up_done(c, err) : SL_OK;
    if (rc != SL_OK && rc != SL_E_NOTFOUND)
        return rc;
    struct run *r = c->run;
    if (r == NULL || r->next_round == 0)
        return sl_err_set(err, SL_E_NOTFOUND, "calibrate: no run with a round done");
    if (r->calib.bytes == 0)
        return sl_err_set(err, SL_E_INPUT, "calibrate: the model of run %" PRIu64
                          " can't be calibrated", r->id);
    if (r->phase != RUN_OVER && r->buffers.flight != NULL && !at_end(r))
        return sl_err_set(err, SL_E_REFUSED, "calibrate: run %" PRIu64
                          " aggregates asynchronously: once it has ended", r->id);
    if (r->phase == RUN_OVER && (r->failed || !r->ended || !run_idle(r)))
        return sl_err_set(err, SL_E_REFUSED, "calibrate: run %" PRIu64 " has %s", r->id,
                          r->failed ? "failed" : "not ended yet");
    /* one that is open may not have asked everybody any more */
    uint32_t wanted = r->calib.number + (calibrate_under_way(r) ? 2 : 1);
    rc = c->env.store->ops->want_calibrations(c->env.store, r->id, wanted, err);
    if (rc != SL_OK)
        return rc;
    SL_CRASH_POINT("after_wish");
    r->calib.wanted = wanted;
    if (r->phase == RUN_CLIENT_EVAL) /* measured again afterwards */
        r->phase = RUN_WAITS;
    if (r->phase == RUN_OVER) { /* goes on for this; its end is reported already */
        r->ended = false;
        r->active = false;
        r->phase = RUN_WAITS;
    }
    run_proceed(r);
    core_wake(c);
    return SL_OK;
}

/* --- the close, on a worker --------------------------------------------------------------------------- */

static enum sl_code add_statistics(const struct run *r, uint32_t slot, uint8_t *bytes,
                                   struct sl_calib *one, struct sl_calib *sum, struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    size_t n = (size_t)r->calib.bytes;
    enum sl_code rc = s->ops->spool_read(s, slot, 0, bytes, n, err);
    if (rc == SL_OK)
        rc = sl_calib_read(one, bytes, n, err);
    if (rc == SL_OK)
        sl_calib_merge(sum, one);
    return rc;
}

/* Members stand in client order. */
static enum sl_code add_all(struct run *r, struct sl_calib *sum, struct sl_err *err)
{
    struct sl_calib one = {0};
    uint8_t *bytes = malloc((size_t)r->calib.bytes);
    enum sl_code rc = bytes == NULL ? sl_err_set(err, SL_E_NOMEM, "statistics")
                                    : sl_calib_init(&one, &r->calib.shape, err);
    r->calib.clients = 0;
    for (size_t i = 0; i < r->round.n_members && rc == SL_OK; i++) {
        if (r->round.members[i].state != SL_MEMBER_ACCEPTED)
            continue;
        rc = add_statistics(r, upload_slot(r, (uint32_t)i), bytes, &one, sum, err);
        r->calib.clients++;
    }
    r->calib.samples = sum->n;
    sl_calib_deinit(&one);
    free(bytes);
    return rc;
}

/* The head as it is, for the ridge to pull to; of a dense head with its bias. */
static void present_head(const struct run *r, double *w)
{
    const struct sl_calib_shape *s = &r->calib.shape;
    struct sl_head_info h = {0};
    sl_model_head(r->model, &h);
    for (size_t k = 0; k < h.classes; k++)
        for (size_t i = 0; i < s->width; i++)
            w[k * s->width + i] = (double)(i < h.width ? r->values[h.weight + k * h.width + i]
                                                       : r->values[h.bias + k]);
}

static enum sl_code solve(struct run *r, const struct sl_calib *sum, struct sl_err *err)
{
    size_t n = sl_calib_n_u(&r->calib.shape);
    double *w = sl_calloc(n, sizeof(*w)), *w0 = sl_calloc(n, sizeof(*w0));
    enum sl_code rc = SL_OK;
    if (w == NULL || w0 == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "calibrated head");
    if (rc == SL_OK && r->plan.calibration.keep_head)
        present_head(r, w0);
    if (rc == SL_OK)
        rc = sl_calib_solve(sum, r->plan.calibration.ridge * (double)sum->n, w0, w,
                            &r->calib.lambda, err);
    memcpy(r->calib.values, r->values, r->n_all * sizeof(float));
    if (rc == SL_OK)
        sl_calib_apply(&r->calib.shape, w, r->model, r->calib.values);
    free(w);
    free(w0);
    return rc;
}

static enum sl_code measure(struct run *r, struct sl_err *err)
{
    struct sl_samples samples = {.set = &r->test, .n = r->test.n};
    enum sl_code rc = sl_evaluate(r->trainer, r->values, &samples, &r->calib.before, err);
    if (rc == SL_OK)
        rc = sl_evaluate(r->trainer, r->calib.values, &samples, &r->calib.after, err);
    return rc;
}

static void calibrate_run(struct sl_job *job)
{
    struct work *w = (struct work *)job;
    struct run *r = (struct run *)((char *)w - offsetof(struct run, work));
    struct sl_store *s = r->c->env.store;
    const struct sl_layout *layout = sl_model_layout(r->model);
    struct sl_calib sum = {0};
    w->rc = sl_calib_init(&sum, &r->calib.shape, &w->err);
    if (w->rc == SL_OK)
        w->rc = add_all(r, &sum, &w->err);
    if (w->rc == SL_OK)
        w->rc = solve(r, &sum, &w->err);
    sl_calib_deinit(&sum);
    if (w->rc == SL_OK)
        w->rc = measure(r, &w->err);
    if (w->rc != SL_OK)
        return;
    sl_model_digest(layout, r->calib.values, w->digest);
    w->rc = s->ops->checkpoint_write(s, r->id, r->round.number + 1, layout, r->calib.values,
                                     w->checkpoint, &w->err);
}

/* --- the commit ----------------------------------------------------------------------------------------- */

static bool is_better(const struct run *r)
{
    return r->calib.after.correct > r->calib.before.correct;
}

/* gave: there is a new head */
static json_t *line_of(struct run *r, bool gave)
{
    struct sl_coordinator *c = r->c;
    const struct calibration *k = &r->calib;
    char digest[SL_DIGEST_HEX];
    bool better = gave && is_better(r);
    uint64_t all = all_samples(r), up = 0, kept = 0;
    for (size_t i = 0; i < r->round.n_members; i++) {
        kept += r->uploads[i].kept;
        if (r->round.members[i].state == SL_MEMBER_ACCEPTED && !r->uploads[i].kept)
            up += poll_bytes_up(r, &r->uploads[i]);
    }
    double n = gave ? (double)k->before.n : 1;
    sl_hex(better ? r->work.digest : r->digest, SL_DIGEST_BYTES, digest);
    json_t *line = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o, s:o, s:o, s:o, s:s, s:b, s:I, s:I, s:f, s:f, "
        "s:s}",
        "event", "calibration", "run", (json_int_t)r->id, "number", (json_int_t)k->number, "round",
        (json_int_t)r->next_round, "enrolled", (json_int_t)r->round.n_members, "clients",
        (json_int_t)(gave ? k->clients : 0), "kept", (json_int_t)kept, "samples",
        (json_int_t)(gave ? k->samples : 0), "share", gave && all > 0 ? (double)k->samples / (double)all : 0.0, "lambda",
        gave ? json_real(k->lambda) : json_null(), "accuracy_before",
        gave ? json_real((double)k->before.correct / n) : json_null(), "accuracy_after",
        gave ? json_real((double)k->after.correct / n) : json_null(), "loss_before",
        gave ? json_real(k->before.loss_sum / n) : json_null(), "loss_after",
        gave ? json_real(k->after.loss_sum / n) : json_null(), "published",
        better ? "calibrated" : "trained", "adopted", better && at_end(r), "bytes_up",
        (json_int_t)up, "bytes_down", (json_int_t)(poll_bytes_down(r, r->round.number) * (r->round.n_members - kept)),
        "latency_s", (double)(c->now_ms - r->opened_ms) * 1e-3, "wall_s",
        c->env.wall_s(c->env.ctx) - r->wall_open, "model_digest", digest);
    if (line != NULL && gave)
        json_object_set_new(line, "checkpoint", json_string(r->work.checkpoint));
    if (line != NULL)
        json_object_set_new(line, "not_included", run_not_included(r));
    return line;
}

static enum sl_code commit_row(struct run *r, const char *json, const struct best *best, bool gave,
                               struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    uint32_t *included = sl_calloc(r->round.n_members, sizeof(*included));
    if (included == NULL)
        return sl_err_set(err, SL_E_NOMEM, "commit");
    struct sl_commit_row row = {.round = r->round.number,
                                .report_json = json,
                                .included = included,
                                .keep = best->checkpoint};
    memcpy(row.model_digest, gave ? r->work.digest : r->digest, SL_DIGEST_BYTES);
    if (gave)
        memcpy(row.checkpoint, r->work.checkpoint, sizeof(row.checkpoint));
    for (size_t i = 0; i < r->round.n_members && gave; i++)
        if (r->round.members[i].state == SL_MEMBER_ACCEPTED)
            included[row.n_included++] = r->round.members[i].client;
    SL_CRASH_POINT("before_calibration");
    enum sl_code rc = s->ops->round_commit(s, r->id, &row, err);
    free(included);
    return rc;
}

static void adopt(struct run *r)
{
    memcpy(r->values, r->calib.values, r->n_all * sizeof(float));
    memcpy(r->digest, r->work.digest, SL_DIGEST_BYTES);
    run_name_model(r);
    r->has_accuracy = true;
    r->accuracy = (double)r->calib.after.correct / (double)r->calib.after.n;
    r->loss = r->calib.after.loss_sum / (double)r->calib.after.n;
}

static void commit(struct run *r, bool gave)
{
    struct sl_coordinator *c = r->c;
    struct sl_err err;
    json_t *line = line_of(r, gave);
    struct best best = best_after(r, line);
    char *text = line == NULL ? NULL : json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17));
    enum sl_code rc = text == NULL ? sl_err_set(&err, SL_E_NOMEM, "report")
                                   : commit_row(r, text, &best, gave, &err);
    free(text);
    if (rc != SL_OK) {
        json_decref(line);
        core_fault(c, rc, &err);
        return;
    }
    SL_CRASH_POINT("after_calibration");
    r->best = best;
    if (json_is_true(json_object_get(line, "adopted")))
        adopt(r);
    calibrate_recall(r, line);
    sl_round_deinit(&r->round); /* no member of it is one of a round */
    r->round.number = r->next_round - 1;
    r->phase = RUN_WAITS;
    c->said[0] = '\0';
    run_report(r, line);
    json_decref(line);
    run_proceed(r);
    poll_serve(c);
}

static void calibrate_done(struct sl_job *job, void *ctx)
{
    struct work *w = (struct work *)job;
    struct run *r = (struct run *)((char *)w - offsetof(struct run, work));
    (void)ctx;
    w->busy = false;
    if (w->rc == SL_OK || w->rc == SL_E_FAILED) { /* no statistics, or none that give a head */
        if (w->rc != SL_OK)
            sl_log_write(r->c->env.log, SL_LOG_WARN, "run %" PRIu64 ": %s", r->id, w->err.msg);
        commit(r, w->rc == SL_OK);
    } else {
        core_fault(r->c, w->rc, &w->err);
    }
    core_wake(r->c);
}

void calibrate_start(struct run *r)
{
    r->phase = RUN_FINALISES;
    r->work.busy = true;
    r->work.adds = NULL;
    r->work.job = (struct sl_job){.run = calibrate_run, .done = calibrate_done};
    sl_executor_submit(r->c->env.executor, &r->work.job);
}

/* --- after a restart -------------------------------------------------------------------------------------- */

void calibrate_recall(struct run *r, const json_t *line)
{
    const char *name = json_string_value(json_object_get(line, "checkpoint"));
    r->calib.number = (uint32_t)json_integer_value(json_object_get(line, "number")) + 1;
    r->calib.at = r->calib.kept_at = (uint32_t)json_integer_value(json_object_get(line, "round"));
    r->bytes_up += (uint64_t)json_integer_value(json_object_get(line, "bytes_up"));
    r->bytes_down += (uint64_t)json_integer_value(json_object_get(line, "bytes_down"));
    r->wall_s += json_number_value(json_object_get(line, "wall_s"));
    if (!json_is_true(json_object_get(line, "adopted")) || name == NULL)
        return;
    r->calib.adopted = true;
    snprintf(r->calib.checkpoint, sizeof(r->calib.checkpoint), "%s", name);
    r->has_accuracy = true;
    r->accuracy = json_number_value(json_object_get(line, "accuracy_after"));
    r->loss = json_number_value(json_object_get(line, "loss_after"));
}

enum sl_code calibrate_restore(struct run *r, struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    if (!r->calib.adopted)
        return SL_OK;
    enum sl_code rc = s->ops->checkpoint_read(s, r->calib.checkpoint, sl_model_layout(r->model),
                                              r->values, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "calibrated model");
    sl_model_digest(sl_model_layout(r->model), r->values, r->digest);
    run_name_model(r);
    return SL_OK;
}
