/* SPDX-License-Identifier: Apache-2.0 */
#include "server/daemon.h"

#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "accel/accel.h"
#include "common/jobs.h"
#include "common/keyfile.h"
#include "common/mem.h"
#include "common/model_file.h"
#include "common/notify.h"
#include "common/report.h"
#include "server/admin.h"
#include "server/coordinator.h"
#include "server/http.h"
#include "server/selection/fedmarl/record.h"
#include "server/service.h"

#define WORKERS 2
#define TICK_MS 1000
#define SHUTDOWN_MS 5000 /* then the process ends whatever the messaging library does */

struct daemon {
    const struct sl_daemon_options *options;
    struct sl_log *log;
    uv_loop_t loop;
    uv_async_t wake;   /* a worker finished a job */
    uv_timer_t timer;  /* sl_coordinator_time */
    uv_timer_t tick;   /* sessions, watchdog, ends */
    uv_signal_t term, intr, hup;
    struct sl_pool *pool;
    struct sl_store *store;
    struct sl_coordinator *coordinator;
    struct sl_service *service;
    struct sl_command_env commands;
    struct sl_admin *admin;
    struct sl_http *http; /* NULL = no page */
    struct sl_report *report;
    json_t *replay;
    uint8_t secret[SL_KEYFILE_KEY], public_key[SL_KEYFILE_KEY];
    uint64_t run; /* of --plan; 0 = none */
    enum { SERVING, DRAINING, CLOSING } phase;
    uint64_t closing_since_ms;
    enum sl_code result;
    struct sl_err err;
};

static uint64_t now_ms(void *ctx)
{
    struct daemon *d = ctx;
    (void)d;
    return uv_hrtime() / 1000000u;
}

/* --- the coordinator's surroundings ------------------------------------------------------------ */

static void env_reply(void *ctx, sl_request_id id, const struct sl_msg *m)
{
    sl_service_reply(((struct daemon *)ctx)->service, id, m);
}

static void on_timer(uv_timer_t *t);

static void env_wake_at(void *ctx, uint64_t at_ms)
{
    struct daemon *d = ctx;
    uint64_t now = now_ms(d);
    uv_update_time(&d->loop);
    uv_timer_start(&d->timer, on_timer, at_ms > now ? at_ms - now : 0, 0);
}

static void env_report(void *ctx, uint64_t run, json_t *line)
{
    struct daemon *d = ctx;
    struct sl_err err;
    if (d->report != NULL && run == d->run && sl_report_write(d->report, line, &err) != SL_OK)
        sl_log_write(d->log, SL_LOG_ERROR, "report: %s", err.msg);
}

/* Beside the state: what a policy can be trained from off line. */
static void env_record(void *ctx, uint64_t run, uint32_t round, const uint8_t *bytes, size_t n)
{
    struct daemon *d = ctx;
    char path[SL_CONFIG_PATH + 32];
    struct sl_err err;
    snprintf(path, sizeof(path), "%s/run-%" PRIu64 ".marl", d->options->config->state_dir, run);
    if (sl_fedmarl_log_append(path, run, round, bytes, n, &err) != SL_OK)
        sl_log_write(d->log, SL_LOG_ERROR, "records of round %" PRIu32 ": %s", round, err.msg);
}

static double env_wall_s(void *ctx)
{
    (void)ctx;
    return (double)uv_hrtime() * 1e-9;
}

static uint64_t env_wire_bytes(void *ctx)
{
    return sl_service_wire_bytes(((struct daemon *)ctx)->service);
}

/* --- closing ------------------------------------------------------------------------------------ */

static void service_closed(void *ctx)
{
    struct daemon *d = ctx;
    uv_close((uv_handle_t *)&d->wake, NULL);
    uv_close((uv_handle_t *)&d->timer, NULL);
    uv_close((uv_handle_t *)&d->tick, NULL);
    uv_close((uv_handle_t *)&d->term, NULL);
    uv_close((uv_handle_t *)&d->intr, NULL);
    uv_close((uv_handle_t *)&d->hup, NULL);
}

static void close_doors(struct daemon *d)
{
    sl_admin_close(d->admin);
    sl_http_close(d->http);
    d->admin = NULL;
    d->http = NULL;
}

/* Every job is over: stop listening, then let the loop run dry. */
static void begin_close(struct daemon *d)
{
    d->phase = CLOSING;
    d->closing_since_ms = now_ms(d);
    sl_notify("STOPPING=1");
    close_doors(d);
    sl_service_close(d->service, service_closed, d);
}

static void drain(struct daemon *d)
{
    if (d->phase != SERVING)
        return;
    d->phase = DRAINING;
    sl_log_write(d->log, SL_LOG_INFO, "draining");
    sl_coordinator_drain(d->coordinator, now_ms(d));
}

static void save_model(struct daemon *d)
{
    const struct sl_layout *layout;
    const float *values = sl_coordinator_model(d->coordinator, &layout);
    if (d->options->model_path == NULL || values == NULL)
        return;
    struct sl_err err;
    enum sl_code rc = sl_model_file_save(d->options->model_path, layout, values, &err);
    if (rc != SL_OK && d->result == SL_OK)
        d->result = sl_err_set(&d->err, rc, "--model-out: %s", err.msg);
}

/* Looked at after every event: did the run of --plan end, may we close? */
static void settle(struct daemon *d)
{
    enum sl_run_state state;
    if (d->phase == SERVING && d->run != 0 &&
        sl_coordinator_finished(d->coordinator, d->run, &state)) {
        if (state == SL_RUN_FAILED)
            d->result = sl_err_set(&d->err, SL_E_FAILED, "run %" PRIu64 " failed (see the report)",
                                   d->run);
        save_model(d);
        drain(d);
    }
    if (d->phase == DRAINING && sl_coordinator_idle(d->coordinator))
        begin_close(d);
}

/* --- callbacks: read what happened, feed the core ---------------------------------------------- */

static void on_timer(uv_timer_t *t)
{
    struct daemon *d = t->data;
    sl_coordinator_time(d->coordinator, now_ms(d));
    settle(d);
}

static void wake_from_worker(void *ctx)
{
    uv_async_send(&((struct daemon *)ctx)->wake);
}

static void on_wake(uv_async_t *a)
{
    struct daemon *d = a->data;
    sl_pool_poll(d->pool);
    settle(d);
}

static void on_tick(uv_timer_t *t)
{
    struct daemon *d = t->data;
    if (d->phase == CLOSING) {
        if (now_ms(d) - d->closing_since_ms > SHUTDOWN_MS) {
            sl_log_write(d->log, SL_LOG_WARN, "the messaging library does not close: leaving");
            _exit(sl_code_exit_status(d->result));
        }
        return;
    }
    sl_service_tick(d->service);
    sl_notify("WATCHDOG=1");
    settle(d);
}

static void reload(struct daemon *d)
{
    struct sl_server_config config;
    struct sl_err err;
    if (sl_server_config_load(d->options->config_path, NULL, 0, &config, &err) != SL_OK) {
        sl_log_write(d->log, SL_LOG_ERROR, "reload: %s; going on as before", err.msg);
        return;
    }
    sl_log_set_level(d->log, config.log);
    sl_server_config_deinit(&config);
    sl_log_write(d->log, SL_LOG_INFO, "reloaded %s (log level; the rest needs a restart)",
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
        _exit(sl_code_exit_status(d->result));
    }
    drain(d);
    settle(d);
}

/* --- what the admin socket asks the daemon ------------------------------------------------------ */

static void add_status(void *ctx, json_t *status)
{
    struct daemon *d = ctx;
    struct sl_gate_stats g = sl_service_stats(d->service);
    json_object_set_new(
        status, "network",
        json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "port", (int)sl_service_port(d->service),
                  "connections", (json_int_t)sl_service_connections(d->service), "sessions",
                  (json_int_t)g.established, "handshakes", (json_int_t)g.handshakes, "refused",
                  (json_int_t)(g.refused + g.failed), "messages_rejected",
                  (json_int_t)sl_service_rejected(d->service), "wire_bytes",
                  (json_int_t)sl_service_wire_bytes(d->service)));
    json_object_set_new(status, "version", json_string(SL_VERSION));
    json_object_set_new(status, "draining", json_boolean(d->phase != SERVING));
}

static void revoked(void *ctx, const uint8_t key[SL_KEY_BYTES])
{
    sl_service_end_key(((struct daemon *)ctx)->service, key);
}

static void admin_drain(void *ctx)
{
    struct daemon *d = ctx;
    drain(d);
    uv_timer_start(&d->timer, on_timer, 0, 0); /* settle after the answer is out */
}

/* --- opening ------------------------------------------------------------------------------------ */

static enum sl_code open_loop(struct daemon *d)
{
    uv_loop_init(&d->loop);
    uv_async_init(&d->loop, &d->wake, on_wake);
    uv_timer_init(&d->loop, &d->timer);
    uv_timer_init(&d->loop, &d->tick);
    uv_signal_init(&d->loop, &d->term);
    uv_signal_init(&d->loop, &d->intr);
    uv_signal_init(&d->loop, &d->hup);
    d->wake.data = d->timer.data = d->tick.data = d;
    d->term.data = d->intr.data = d->hup.data = d;
    uv_timer_start(&d->tick, on_tick, TICK_MS, TICK_MS);
    uv_signal_start(&d->term, on_signal, SIGTERM);
    uv_signal_start(&d->intr, on_signal, SIGINT);
    uv_signal_start(&d->hup, on_signal, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    return SL_OK;
}

static enum sl_code open_core(struct daemon *d)
{
    const struct sl_server_config *config = d->options->config;
    struct sl_sqlite_options sqlite = {.sync_every_update = config->sync_every_update};
    enum sl_code rc = sl_store_sqlite_open(config->state_dir, &sqlite, &d->store, &d->err);
    if (rc != SL_OK)
        return rc;
    struct sl_coordinator_env env = {.ctx = d,
                                     .store = d->store,
                                     .executor = sl_pool_executor(d->pool),
                                     .log = d->log,
                                     .reply = env_reply,
                                     .wake_at = env_wake_at,
                                     .report = env_report,
                                     .record = env_record,
                                     .wall_s = env_wall_s,
                                     .wire_bytes = env_wire_bytes,
                                     .blas_name = sl_accel_blas_name(),
                                     .poll_hold_ms = SL_POLL_HOLD_MS,
                                     .data_path = config->data_path[0] ? config->data_path : NULL,
                                     .max_clients = config->max_clients,
                                     .replay = d->replay};
    return sl_coordinator_new(&env, now_ms(d), &d->coordinator, &d->err);
}

static enum sl_code open_service(struct daemon *d)
{
    const struct sl_server_config *config = d->options->config;
    struct sl_service_config service = {.listen = config->listen,
                                        .max_sessions = 2 * config->max_clients,
                                        .handshakes_per_s = config->handshakes_per_s,
                                        .max_contexts = config->max_clients * 2 + 64,
                                        .inflight_per_client = config->requests_per_client,
                                        .executor = sl_pool_executor(d->pool),
                                        .log = d->log,
                                        .now_ms = now_ms,
                                        .ctx = d};
    memcpy(service.secret, d->secret, sizeof(service.secret));
    enum sl_code rc = sl_service_new(&d->loop, &service, &d->service, &d->err);
    sodium_memzero(service.secret, sizeof(service.secret));
    return rc;
}

/* What operators ask: the admin socket and the status page. */
static enum sl_code open_doors(struct daemon *d)
{
    const struct sl_server_config *config = d->options->config;
    d->commands = (struct sl_command_env){.coordinator = d->coordinator,
                                          .store = d->store,
                                          .server_key = d->public_key,
                                          .ctx = d,
                                          .now_ms = now_ms,
                                          .add_status = add_status,
                                          .revoked = revoked,
                                          .drain = admin_drain};
    enum sl_code rc = sl_admin_open(&d->loop, config->admin_socket, &d->commands, &d->admin, &d->err);
    if (rc == SL_OK && config->http[0] != '\0')
        rc = sl_http_open(&d->loop, config->http, &d->commands, d->log, &d->http, &d->err);
    return rc;
}

static enum sl_code start_plan(struct daemon *d)
{
    if (d->options->plan == NULL)
        return SL_OK;
    return sl_coordinator_submit(d->coordinator, now_ms(d), d->options->plan, &d->run, &d->err);
}

static enum sl_code open_all(struct daemon *d)
{
    const struct sl_daemon_options *o = d->options;
    enum sl_code rc = sl_keyfile_read(o->config->identity, d->secret, &d->err);
    if (rc != SL_OK)
        return sl_err_wrap(&d->err, rc, "identity");
    sl_keyfile_public(d->secret, d->public_key);
    if (o->replay_path != NULL)
        rc = sl_report_read(o->replay_path, &d->replay, &d->err);
    if (rc == SL_OK && o->report_path != NULL)
        rc = sl_report_open(o->report_path, &d->report, &d->err);
    if (rc == SL_OK)
        rc = sl_pool_new(WORKERS, wake_from_worker, d, &d->pool, &d->err);
    if (rc == SL_OK)
        rc = open_service(d);
    if (rc == SL_OK)
        rc = open_core(d);
    if (rc == SL_OK) {
        sl_service_serve(d->service, d->coordinator);
        rc = open_doors(d);
    }
    if (rc == SL_OK)
        rc = start_plan(d);
    return rc;
}

static void close_all(struct daemon *d)
{
    sl_pool_free(d->pool); /* before what its jobs point to */
    sl_coordinator_free(d->coordinator);
    sl_service_free(d->service);
    if (d->store != NULL)
        d->store->ops->close(d->store);
    sl_report_close(d->report);
    json_decref(d->replay);
    sodium_memzero(d->secret, sizeof(d->secret));
}

static void announce(struct daemon *d)
{
    char key[SL_KEYFILE_HEX];
    sl_key_format(d->public_key, key);
    sl_log_write(d->log, SL_LOG_INFO, "listening at port %u, key %s", (unsigned)sl_service_port(d->service),
                key);
    sl_notify("READY=1\nSTATUS=serving");
}

enum sl_code sl_daemon_run(const struct sl_daemon_options *options, struct sl_err *err)
{
    struct daemon *d = sl_calloc(1, sizeof(*d));
    if (d == NULL)
        return sl_err_set(err, SL_E_NOMEM, "daemon");
    d->options = options;
    d->log = options->log;
    open_loop(d);
    enum sl_code rc = open_all(d);
    if (rc == SL_OK) {
        announce(d);
        settle(d);
        uv_run(&d->loop, UV_RUN_DEFAULT);
        rc = d->result;
    } else {
        close_doors(d);
        if (d->service != NULL)
            sl_service_close(d->service, service_closed, d);
        else
            service_closed(d);
        uv_run(&d->loop, UV_RUN_DEFAULT);
    }
    close_all(d);
    uv_loop_close(&d->loop);
    *err = d->err;
    err->code = rc;
    free(d);
    return rc;
}
