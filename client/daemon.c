/* SPDX-License-Identifier: Apache-2.0 */
#include "client/daemon.h"

#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "accel/units/setup.h"
#include "accel/accel.h"
#include "client/client.h"
#include "client/connection.h"
#include "client/workplace.h"
#include "common/jobs.h"
#include "common/join_token.h"
#include "common/keyfile.h"
#include "common/mem.h"
#include "common/notify.h"

#define WORKERS 2 /* one trains, the other seals and opens large records meanwhile */
#define TICK_MS 1000
#define REST_MS 2000     /* without a task so long, memory is given back */
#define DRAIN_MS 10000   /* for what is under way at a signal */
#define SHUTDOWN_MS 5000 /* then the process ends whatever the messaging library does */
#define REACH_MS 30000   /* --once: without a session so long, nobody is there */

struct blob {
    struct sl_blob_ref ref;
    uint8_t *bytes; /* NULL = free */
};

struct daemon {
    const struct sl_client_daemon_options *options;
    const struct sl_client_config *config;
    struct sl_log *log;
    uv_loop_t loop;
    uv_async_t wake;  /* a worker finished a job */
    uv_timer_t timer; /* sl_client_time */
    uv_timer_t slow;  /* the rest of a slowed-down training */
    uv_timer_t tick;  /* memory, watchdog, ends */
    uv_signal_t term, intr, hup;
    struct sl_pool *pool;
    struct sl_client_store *store;
    struct sl_workplace_config place;
    struct sl_workplace *workplace;
    struct sl_connection *connection;
    struct sl_client *client;
    struct blob blob[SL_CLIENT_BLOBS];
    double slowdown;

    struct sl_job job; /* training */
    const struct sl_client_job *order;
    struct sl_client_result result;
    bool working;
    bool goes_on; /* the job is the rest of a training that has probed */
    uint64_t started_ms, rested_since_ms, down_since_ms;

    /* of --once */
    uint32_t rounds;  /* of the plan last worked on */
    uint32_t settled; /* updates of this process's time */
    bool over;

    enum { SERVING, DRAINING, CLOSING } phase;
    uint64_t phase_since_ms;
    enum sl_code rc;
    struct sl_err err;
};

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000u;
}

/* --- received blobs
 * -------------------------------------------------------------------------------- */

static struct blob *blob_find(struct daemon *d, const struct sl_blob_ref *ref)
{
    for (size_t i = 0; i < SL_CLIENT_BLOBS; i++)
        if (d->blob[i].bytes != NULL && sl_blob_id_equal(&d->blob[i].ref.id, &ref->id))
            return &d->blob[i];
    return NULL;
}

static enum sl_code blob_begin(void *ctx, const struct sl_blob_ref *ref,
                               struct sl_err *err)
{
    struct daemon *d = ctx;
    struct blob *b = NULL;
    for (size_t i = 0; i < SL_CLIENT_BLOBS && b == NULL; i++)
        if (d->blob[i].bytes == NULL)
            b = &d->blob[i];
    if (b == NULL)
        return sl_err_set(err, SL_E_BUG, "blob: %d are held already", SL_CLIENT_BLOBS);
    if (ref->size == 0 || ref->size > SL_BLOB_BYTES_MAX)
        return sl_err_set(err, SL_E_LIMIT,
                          "blob of %" PRIu64 " bytes, allowed are 1 to %zu", ref->size,
                          SL_BLOB_BYTES_MAX);
    b->bytes = malloc((size_t)ref->size);
    if (b->bytes == NULL)
        return sl_err_set(err, SL_E_NOMEM, "no memory for a blob of %" PRIu64 " bytes",
                          ref->size);
    b->ref = *ref;
    return SL_OK;
}

static enum sl_code blob_write(void *ctx, const struct sl_blob_ref *ref, uint64_t offset,
                               const uint8_t *data, size_t n, struct sl_err *err)
{
    struct blob *b = blob_find(ctx, ref);
    if (b == NULL || offset > b->ref.size || n > b->ref.size - offset)
        return sl_err_set(err, SL_E_BUG, "blob: a chunk beyond its end");
    memcpy(b->bytes + offset, data, n);
    return SL_OK;
}

static enum sl_code blob_finish(void *ctx, const struct sl_blob_ref *ref,
                                const uint8_t **ret_bytes, struct sl_err *err)
{
    struct blob *b = blob_find(ctx, ref);
    struct sl_blob_id sum;
    if (b == NULL)
        return sl_err_set(err, SL_E_BUG, "blob: not begun");
    sl_xxh3_128(b->bytes, (size_t)b->ref.size, &sum);
    if (!sl_blob_id_equal(&sum, &ref->id))
        return sl_err_set(err, SL_E_CRYPTO, "what was received fails its checksum");
    *ret_bytes = b->bytes;
    return SL_OK;
}

static void blob_release(void *ctx, const struct sl_blob_ref *ref)
{
    struct blob *b = blob_find(ctx, ref);
    if (b == NULL)
        return;
    free(b->bytes);
    *b = (struct blob){0};
}

/* --- closing
 * ------------------------------------------------------------------------------------------
 */

static void close_handle(uv_handle_t *h, void *arg)
{
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

static void connection_closed(void *ctx)
{
    struct daemon *d = ctx;
    uv_walk(&d->loop, close_handle, NULL); /* what is left: timers, signals, async */
}

static void begin_close(struct daemon *d)
{
    if (d->phase == CLOSING)
        return;
    d->phase = CLOSING;
    d->phase_since_ms = now_ms();
    sl_notify("STOPPING=1");
    if (d->working) { /* its update would be made again, to the same bytes */
        sl_log_write(d->log, SL_LOG_INFO, "leaving; the task under way is given up");
        _exit(sl_code_exit_status(d->rc));
    }
    sl_connection_close(d->connection, connection_closed, d);
}

static void drain(struct daemon *d)
{
    if (d->phase != SERVING)
        return;
    d->phase = DRAINING;
    d->phase_since_ms = now_ms();
    sl_client_drain(d->client);
}

/* Looked at after every event: is there a reason to end? */
static void settle(struct daemon *d)
{
    if (d->phase == SERVING && d->options->once && d->over && !sl_client_keeps(d->client))
        drain(d);
    if (d->phase == DRAINING && sl_client_idle(d->client))
        begin_close(d);
}

/* --- the core's surroundings
 * --------------------------------------------------------------------------- */

static void send_message(void *ctx, uint64_t id, const struct sl_msg *m)
{
    sl_connection_send(((struct daemon *)ctx)->connection, id, m);
}

static void on_timer(uv_timer_t *t)
{
    struct daemon *d = t->data;
    sl_client_time(d->client, now_ms());
    settle(d);
}

static void wake_at(void *ctx, uint64_t at_ms)
{
    struct daemon *d = ctx;
    uint64_t now = now_ms();
    uv_update_time(&d->loop);
    uv_timer_start(&d->timer, on_timer, at_ms > now ? at_ms - now : 0, 0);
}

static void work_run(struct sl_job *job)
{
    struct daemon *d = job->ctx;
    if (d->goes_on)
        sl_workplace_go_on(d->workplace, d->order, &d->result);
    else
        sl_workplace_do(d->workplace, d->order, &d->result);
}

static void log_result(struct daemon *d, uint64_t took_ms)
{
    const struct sl_client_result *r = &d->result;
    const struct sl_update_meta *m = &r->kept.meta;
    const struct sl_eval_counts *e =
        d->order->order.kind == SL_TASK_TRAIN ? &m->eval : &r->eval;
    uint32_t round = d->order->order.round;
    if (r->rc != SL_OK)
        return; /* the core logs it with the report */
    if (r->probed) {
        sl_log_write(d->log, SL_LOG_INFO, "round %" PRIu32 ": probe epoch: loss %.4f, %.2f s",
                     round, (double)r->loss, (double)took_ms / 1000.0);
        return;
    }
    if (e->samples > 0)
        sl_log_write(d->log, SL_LOG_INFO,
               "round %" PRIu32 ": received model: accuracy %.4f, loss %.4f on %" PRIu64
               " held-out samples",
               round, (double)e->correct / (double)e->samples,
               e->loss_sum / (double)e->samples, e->samples);
    if (d->order->order.kind == SL_TASK_TRAIN)
        sl_log_write(d->log, SL_LOG_INFO,
               "round %" PRIu32 ": trained %" PRIu32 " steps, %" PRIu64
               " samples, loss %.4f, %.2f s",
               round, m->steps, m->samples,
               m->samples > 0 ? m->loss_sum / (double)m->samples : 0.0,
               (double)took_ms / 1000.0);
}

static void work_over(struct daemon *d)
{
    d->working = false;
    d->rested_since_ms = now_ms();
    log_result(d, d->rested_since_ms - d->started_ms);
    d->rounds = sl_workplace_rounds(d->workplace);
    if (d->result.rc == SL_OK && d->result.probed)
        sl_client_probed(d->client, now_ms(), &d->result);
    else
        sl_client_done(d->client, now_ms(), &d->result);
    settle(d);
}

static void on_slow(uv_timer_t *t)
{
    work_over(t->data);
}

/* A slowed-down client pretends that its device needs `slowdown` times as long. */
static void work_done(struct sl_job *job, void *ctx)
{
    struct daemon *d = ctx;
    uint64_t took_ms = now_ms() - d->started_ms;
    if (d->phase == CLOSING)
        return;
    if (d->slowdown <= 1.0 || d->phase != SERVING) {
        work_over(d);
        return;
    }
    uv_update_time(&d->loop);
    uv_timer_start(&d->slow, on_slow, (uint64_t)((d->slowdown - 1.0) * (double)took_ms),
                   0);
}

static void submit_work(struct daemon *d)
{
    d->working = true;
    d->started_ms = now_ms();
    d->job = (struct sl_job){.run = work_run, .done = work_done, .ctx = d};
    sl_executor_submit(sl_pool_executor(d->pool), &d->job);
}

static void work(void *ctx, const struct sl_client_job *job)
{
    struct daemon *d = ctx;
    d->order = job;
    d->goes_on = false;
    submit_work(d);
}

static void decided(void *ctx, bool go)
{
    struct daemon *d = ctx;
    d->goes_on = go;
    if (go)
        submit_work(d);
}

/* --- the connection's events
 * ------------------------------------------------------------------------------ */

static void on_up(void *ctx)
{
    struct daemon *d = ctx;
    d->down_since_ms = 0;
    sl_client_connected(d->client, now_ms());
    settle(d);
}

static void on_down(void *ctx)
{
    struct daemon *d = ctx;
    if (d->down_since_ms == 0)
        d->down_since_ms = now_ms();
    sl_client_disconnected(d->client, now_ms());
    settle(d);
}

/* What --once needs to know: the last round is settled, another run has begun, or the
 * coordinator that settled something is leaving. */
static void watch_for_end(struct daemon *d, const struct sl_msg *m)
{
    if (m->poll_reply.has_settled) {
        d->settled++;
        if (m->poll_reply.settled_round + 1 == d->rounds)
            d->over = true;
    }
    bool other_run = d->order != NULL && m->poll_reply.task.kind != SL_TASK_NONE &&
                     m->poll_reply.task.run_id != d->order->order.run_id;
    if (d->settled > 0 && (m->poll_reply.draining || other_run))
        d->over = true;
    if (d->options->once && other_run)
        drain(d); /* before the core takes the task */
}

static void on_reply(void *ctx, uint64_t id, const struct sl_msg *m)
{
    struct daemon *d = ctx;
    if (m->kind == SL_MSG_REGISTERED)
        sl_connection_enrolled(d->connection);
    if (m->kind == SL_MSG_POLL_REPLY)
        watch_for_end(d, m);
    sl_client_reply(d->client, now_ms(), id, m);
    settle(d);
}

static void on_refused(void *ctx, const struct sl_err *err)
{
    struct daemon *d = ctx;
    d->err = *err;
    d->rc = SL_E_REFUSED;
    begin_close(d);
}

/* --- callbacks of the loop
 * ----------------------------------------------------------------------------------- */

static void wake_from_worker(void *ctx)
{
    uv_async_send(&((struct daemon *)ctx)->wake);
}

static void on_wake(uv_async_t *a)
{
    struct daemon *d = a->data;
    sl_pool_poll(d->pool);
}

static void give_memory_back(struct daemon *d)
{
    if (d->working || !sl_client_idle(d->client) || sl_workplace_is_clear(d->workplace) ||
        now_ms() - d->rested_since_ms < REST_MS)
        return;
    sl_workplace_clear(d->workplace);
}

static void check_reach(struct daemon *d)
{
    if (!d->options->once || d->phase != SERVING || d->down_since_ms == 0 ||
        now_ms() - d->down_since_ms < REACH_MS)
        return;
    if (d->settled == 0)
        d->rc = sl_err_set(&d->err, SL_E_UNREACHABLE, "no answer from %s for %d s",
                           d->config->coordinator, REACH_MS / 1000);
    begin_close(d);
}

static void check_drain(struct daemon *d)
{
    if (d->phase == DRAINING && now_ms() - d->phase_since_ms > DRAIN_MS)
        begin_close(d);
    if (d->phase == CLOSING && now_ms() - d->phase_since_ms > SHUTDOWN_MS) {
        sl_log_write(d->log, SL_LOG_WARN, "the messaging library does not close: leaving");
        _exit(sl_code_exit_status(d->rc));
    }
}

static void on_tick(uv_timer_t *t)
{
    struct daemon *d = t->data;
    char status[64];
    check_drain(d);
    if (d->phase == CLOSING)
        return;
    check_reach(d);
    give_memory_back(d);
    snprintf(status, sizeof status, "WATCHDOG=1\nSTATUS=%s", sl_client_phase(d->client));
    sl_notify(status);
}

static void reload(struct daemon *d)
{
    struct sl_client_config config;
    struct sl_err err;
    if (sl_client_config_load(d->options->config_path, NULL, 0, &config, &err) != SL_OK) {
        sl_log_write(d->log, SL_LOG_ERROR, "reload: %s; going on as before", err.msg);
        return;
    }
    if (!d->options->quiet)
        sl_log_set_level(d->log, config.log);
    d->slowdown = config.slowdown;
    sl_client_config_deinit(&config);
    sl_log_write(d->log, SL_LOG_INFO,
           "reloaded %s (log level, slowdown; the rest needs a restart)",
           d->options->config_path);
}

static void on_signal(uv_signal_t *s, int number)
{
    struct daemon *d = s->data;
    if (number == SIGHUP) {
        reload(d);
        return;
    }
    if (d->phase != SERVING) {
        sl_log_write(d->log, SL_LOG_INFO, "second signal: leaving at once");
        _exit(sl_code_exit_status(d->rc));
    }
    sl_log_write(d->log, SL_LOG_INFO, "draining");
    drain(d);
    settle(d);
}

/* --- opening
 * ------------------------------------------------------------------------------------------------
 */

static void open_loop(struct daemon *d)
{
    uv_loop_init(&d->loop);
    uv_async_init(&d->loop, &d->wake, on_wake);
    uv_timer_init(&d->loop, &d->timer);
    uv_timer_init(&d->loop, &d->slow);
    uv_timer_init(&d->loop, &d->tick);
    uv_signal_init(&d->loop, &d->term);
    uv_signal_init(&d->loop, &d->intr);
    uv_signal_init(&d->loop, &d->hup);
    d->wake.data = d->timer.data = d->slow.data = d->tick.data = d;
    d->term.data = d->intr.data = d->hup.data = d;
    uv_timer_start(&d->tick, on_tick, TICK_MS, TICK_MS);
    uv_signal_start(&d->term, on_signal, SIGTERM);
    uv_signal_start(&d->intr, on_signal, SIGINT);
    uv_signal_start(&d->hup, on_signal, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
}

/* The identity; made when it is missing and there is a token to enrol it with. */
static enum sl_code read_identity(struct daemon *d, struct sl_link_config *link,
                                  bool *ret_new)
{
    enum sl_code rc = sl_keyfile_read(d->config->identity, link->secret, &d->err);
    *ret_new = false;
    if (rc == SL_E_NOTFOUND && link->has_token) {
        rc = sl_keyfile_generate(d->config->identity, link->secret, &d->err);
        *ret_new = rc == SL_OK;
    }
    return rc == SL_OK ? SL_OK : sl_err_wrap(&d->err, rc, "identity");
}

/* Whom to talk to, and the token if there is one. The coordinator's key comes from the
 * config or from the token; from both, it must be the same. */
static enum sl_code read_peer(const struct sl_client_config *config,
                              struct sl_link_config *link, struct sl_err *err)
{
    struct sl_join_token token;
    enum sl_code rc = SL_OK;
    link->has_token = config->join_token[0] != 0;
    if (link->has_token) {
        rc = sl_join_token_parse(config->join_token, &token, err);
        if (rc != SL_OK)
            return sl_err_wrap(err, rc, "join_token");
        memcpy(link->server, token.server, sizeof link->server);
        memcpy(link->token, token.id, sizeof link->token);
        memcpy(link->psk, token.psk, sizeof link->psk);
        sodium_memzero(&token, sizeof token);
    }
    if (config->coordinator_key[0] == 0)
        return link->has_token
                   ? SL_OK
                   : sl_err_set(err, SL_E_INPUT,
                                "coordinator_key or join_token must be given");
    uint8_t key[SL_KEYFILE_KEY];
    rc = sl_key_parse(config->coordinator_key, key, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "coordinator_key");
    if (link->has_token && memcmp(key, link->server, sizeof key) != 0)
        return sl_err_set(
            err, SL_E_INPUT,
            "coordinator_key is not the key of the coordinator that gave join_token");
    memcpy(link->server, key, sizeof key);
    return SL_OK;
}

enum sl_code sl_client_daemon_check(const struct sl_client_config *config,
                                    struct sl_err *err)
{
    struct sl_link_config link = {0};
    enum sl_code rc = read_peer(config, &link, err);
    if (rc == SL_OK) {
        rc = sl_keyfile_read(config->identity, link.secret, err);
        if (rc == SL_E_NOTFOUND && link.has_token)
            rc = SL_OK;
        else if (rc != SL_OK)
            sl_err_wrap(err, rc, "identity");
    }
    sodium_memzero(&link, sizeof link);
    return rc;
}

static enum sl_code open_connection(struct daemon *d)
{
    const struct sl_client_config *config = d->config;
    struct sl_connection_config cc = {
        .url = config->coordinator, .executor = sl_pool_executor(d->pool), .log = d->log};
    enum sl_code rc = read_peer(config, &cc.link, &d->err);
    if (rc == SL_OK)
        rc = read_identity(d, &cc.link, &cc.token_first);
    struct sl_connection_events events = {
        .ctx = d, .up = on_up, .down = on_down, .reply = on_reply, .refused = on_refused};
    if (rc == SL_OK)
        rc = sl_connection_open(&d->loop, &cc, &events, &d->connection, &d->err);
    sodium_memzero(&cc.link, sizeof cc.link);
    return rc;
}

static enum sl_code open_client(struct daemon *d)
{
    struct sl_client_env env = {.ctx = d,
                                .store = d->store,
                                .log = d->log,
                                .send = send_message,
                                .wake_at = wake_at,
                                .blob_begin = blob_begin,
                                .blob_write = blob_write,
                                .blob_finish = blob_finish,
                                .blob_release = blob_release,
                                .work = work,
                                .decided = decided,
                                .index = d->config->index};
    randombytes_buf(&env.seed, sizeof env.seed);
    randombytes_buf(&env.boot_id, sizeof env.boot_id);
    snprintf(env.name, sizeof env.name, "%s", d->config->name);
    snprintf(env.blas, sizeof env.blas, "%s", sl_accel_blas_name());
    const struct sl_client_config *config = d->config;
    char unit[SL_UNIT_TEXT] = "as the plan says";
    if (config->hardware.given)
        sl_unit_text(&config->hardware.accelerator, unit);
    snprintf(env.hardware, sizeof env.hardware, "%s", unit);
    enum sl_code rc = sl_workplace_own_samples(&d->place, &env.own_samples, &d->err);
    return rc == SL_OK ? sl_client_new(&env, now_ms(), &d->client, &d->err) : rc;
}

static enum sl_code open_all(struct daemon *d)
{
    const struct sl_client_config *config = d->config;
    enum sl_code rc =
        sl_client_store_files_open(config->state_dir, d->log, &d->store, &d->err);
    d->place = (struct sl_workplace_config){.store = d->store};
    if (config->hardware.given)
        d->place.hardware = &config->hardware.accelerator;
    if (config->data.dataset[0] != 0)
        d->place.own = (struct sl_dataset_source){.kind = config->data.dataset,
                                                  .path = config->data.path,
                                                  .split = SL_SPLIT_TRAIN,
                                                  .limit = config->data.limit};
    else if (config->data.path[0] != 0)
        d->place.data_path = config->data.path;
    if (rc == SL_OK)
        rc = sl_pool_new(WORKERS, wake_from_worker, d, &d->pool, &d->err);
    if (rc == SL_OK)
        rc = sl_workplace_new(&d->place, &d->workplace, &d->err);
    if (rc == SL_OK)
        rc = open_client(d);
    if (rc == SL_OK)
        rc = open_connection(d);
    return rc;
}

static void close_all(struct daemon *d)
{
    sl_pool_free(d->pool); /* before what its jobs point to */
    sl_client_free(d->client);
    sl_connection_free(d->connection);
    sl_workplace_free(d->workplace);
    if (d->store != NULL)
        d->store->ops->close(d->store);
    for (size_t i = 0; i < SL_CLIENT_BLOBS; i++)
        free(d->blob[i].bytes);
}

enum sl_code sl_client_daemon_run(const struct sl_client_daemon_options *options,
                                  struct sl_err *err)
{
    struct daemon *d = sl_calloc(1, sizeof *d);
    if (d == NULL)
        return sl_err_set(err, SL_E_NOMEM, "daemon: no memory");
    d->options = options;
    d->config = options->config;
    d->log = options->log;
    d->slowdown = options->config->slowdown;
    d->down_since_ms = now_ms();
    open_loop(d);
    d->rc = open_all(d);
    if (d->rc == SL_OK) {
        if (d->config->threads > 1)
            sl_log_write(d->log, SL_LOG_WARN,
                         "threads: %" PRIu32 ": a training runs on one thread all the same",
                         d->config->threads);
        malloc_trim(0);
        sl_notify("READY=1\nSTATUS=connecting");
    } else {
        uv_walk(&d->loop, close_handle, NULL);
    }
    uv_run(&d->loop, UV_RUN_DEFAULT);
    close_all(d);
    uv_loop_close(&d->loop);
    enum sl_code rc = d->rc;
    if (rc != SL_OK)
        *err = d->err;
    free(d);
    return rc;
}
