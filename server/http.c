/* SPDX-License-Identifier: Apache-2.0 */
#include "server/http.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "common/address.h"
#include "common/mem.h"

struct sl_http {
    struct MHD_Daemon *mhd;
    const struct sl_command_env *env;
    uv_poll_t poll;   /* MHD's epoll descriptor */
    uv_timer_t timer; /* when MHD wants to run without an event */
    unsigned handles; /* open uv handles; the last one to close frees */
};

static const char page[] =
#include "server/page.inc"
    ;

#define POLICY                                                                           \
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "        \
    "connect-src 'self'"

/* --- answers ---------------------------------------------------------------------- */

static enum MHD_Result respond(struct MHD_Connection *c, unsigned status, const char *type,
                               void *text, size_t n, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(n, text, mode);
    if (r == NULL) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free(text);
        return MHD_NO;
    }
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "Content-Security-Policy", POLICY);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result queued = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return queued;
}

static enum MHD_Result respond_json(struct MHD_Connection *c, unsigned status, json_t *body)
{
    char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(body);
    if (text == NULL)
        return MHD_NO;
    return respond(c, status, "application/json", text, strlen(text), MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result respond_error(struct MHD_Connection *c, unsigned status, enum sl_code code,
                                     const char *text)
{
    return respond_json(c, status, json_pack("{s:b, s:i, s:s}", "ok", 0, "code", (int)code,
                                             "error", text));
}

static enum MHD_Result get_page(struct sl_http *h, struct MHD_Connection *c)
{
    return respond(c, MHD_HTTP_OK, "text/html; charset=utf-8", (void *)(uintptr_t)page,
                   sizeof(page) - 1, MHD_RESPMEM_PERSISTENT);
}

/* Whole numbers of the query; what is none goes on as a text, which the command refuses. */
static void add_number(struct MHD_Connection *c, const char *key, json_t *request)
{
    const char *text = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, key);
    if (text == NULL)
        return;
    char *end;
    errno = 0;
    intmax_t v = strtoimax(text, &end, 10);
    bool number = end != text && *end == '\0' && errno == 0;
    json_object_set_new(request, key, number ? json_integer(v) : json_string(text));
}

static enum MHD_Result get_command(struct sl_http *h, struct MHD_Connection *c, const char *name)
{
    json_t *request = json_pack("{s:s}", "cmd", name);
    struct sl_answer answer = {.body = json_object()};
    struct sl_err err = {0};
    add_number(c, "round", request);
    add_number(c, "run", request);
    add_number(c, "from", request);
    enum sl_code rc = request == NULL || answer.body == NULL
                          ? SL_E_NOMEM
                          : sl_command_run(h->env, request, &answer, &err);
    json_decref(request);
    if (rc == SL_OK) {
        json_object_set_new(answer.body, "ok", json_true());
        return respond_json(c, MHD_HTTP_OK, answer.body);
    }
    json_decref(answer.body);
    return respond_error(c, rc == SL_E_USAGE ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_NOT_FOUND, rc,
                         err.msg[0] != '\0' ? err.msg : sl_code_text(rc));
}

/* --- metrics ---------------------------------------------------------------------- */

/* Where a figure stands in the status object. */
static const struct metric {
    const char *object, *key, *name, *type, *help;
} metrics[] = {
    {"clients", "enrolled", "starling_clients_enrolled", "gauge", "clients in the registry"},
    {"clients", "registered", "starling_clients_registered", "gauge",
     "clients heard of since the start"},
    {"clients", "idle", "starling_clients_idle", "gauge", "clients that wait for a task"},
    {"network", "connections", "starling_connections", "gauge", "open connections"},
    {"network", "sessions", "starling_sessions", "gauge", "established sessions"},
    {"network", "handshakes", "starling_handshakes_total", "counter", "handshakes begun"},
    {"network", "refused", "starling_handshakes_refused_total", "counter",
     "handshakes refused or failed"},
    {"network", "messages_rejected", "starling_messages_rejected_total", "counter",
     "messages that were not understood"},
    {"network", "wire_bytes", "starling_wire_bytes_total", "counter",
     "bytes sent and received"},
    {"run", "id", "starling_run", "gauge", "number of the current run"},
    {"run", "round", "starling_round", "gauge", "rounds committed in the current run"},
    {"run", "rounds", "starling_rounds", "gauge", "rounds planned for the current run"},
    {"run", "members", "starling_round_members", "gauge", "clients in the open round"},
    {"run", "accepted", "starling_round_accepted", "gauge",
     "updates accepted in the open round"},
    {"run", "failed", "starling_round_failed", "gauge", "members failed in the open round"},
    {"run", "remaining_s", "starling_round_remaining_seconds", "gauge",
     "time to the open round's deadline"},
    {"run", "accuracy", "starling_accuracy", "gauge",
     "accuracy of the current run's last evaluation, 0 to 1"},
};

static enum MHD_Result get_metrics(struct sl_http *h, struct MHD_Connection *c)
{
    json_t *request = json_pack("{s:s}", "cmd", "status");
    struct sl_answer answer = {.body = json_object()};
    struct sl_err err;
    char *text = NULL;
    size_t n = 0;
    FILE *to = NULL;
    if (request != NULL && answer.body != NULL &&
        sl_command_run(h->env, request, &answer, &err) == SL_OK)
        to = open_memstream(&text, &n);
    json_decref(request);
    for (size_t i = 0; to != NULL && i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        const struct metric *m = &metrics[i];
        json_t *status = json_object_get(answer.body, "status");
        json_t *value = json_object_get(json_object_get(status, m->object), m->key);
        if (json_is_number(value))
            fprintf(to, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", m->name, m->help, m->name,
                    m->type, m->name, json_number_value(value));
    }
    json_decref(answer.body);
    if (to == NULL || fclose(to) != 0) {
        free(text);
        return MHD_NO;
    }
    return respond(c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, n,
                   MHD_RESPMEM_MUST_FREE);
}

/* --- requests --------------------------------------------------------------------- */

/* What a path gives: the answer of a command that only reads, or what a function makes. */
static const struct {
    const char *path, *command;
    enum MHD_Result (*get)(struct sl_http *h, struct MHD_Connection *c);
} routes[] = {
    {"/", NULL, get_page},
    {"/status.json", "status", NULL},
    {"/clients.json", "clients", NULL},
    {"/explain.json", "explain", NULL},
    {"/report.json", "report", NULL},
    {"/metrics", NULL, get_metrics},
};

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *n_data, void **seen)
{
    struct sl_http *h = ctx;
    (void)version;
    (void)data;
    if (*seen == NULL) { /* the head is here; the answer comes when all of the request is */
        *seen = h;
        return MHD_YES;
    }
    if (*n_data > 0) {
        *n_data = 0; /* a body is read and dropped */
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return respond_error(c, MHD_HTTP_METHOD_NOT_ALLOWED, SL_E_USAGE,
                             "only GET and HEAD: this page changes nothing");
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        if (strcmp(routes[i].path, url) == 0)
            return routes[i].command != NULL ? get_command(h, c, routes[i].command)
                                             : routes[i].get(h, c);
    return respond_error(c, MHD_HTTP_NOT_FOUND, SL_E_NOTFOUND, "no such page");
}

/* --- the loop --------------------------------------------------------------------- */

static void on_timer(uv_timer_t *t);

static unsigned connections(const struct sl_http *h)
{
    const union MHD_DaemonInfo *i = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    return i == NULL ? 0 : i->num_connections;
}

static void turn(struct sl_http *h)
{
    MHD_UNSIGNED_LONG_LONG ms;
    unsigned before;
    do { /* where one has ended another may be accepted, which nothing else would tell */
        before = connections(h);
        MHD_run(h->mhd);
    } while (connections(h) < before);
    if (MHD_get_timeout(h->mhd, &ms) == MHD_YES)
        uv_timer_start(&h->timer, on_timer, ms, 0);
    else
        uv_timer_stop(&h->timer);
}

static void on_timer(uv_timer_t *t)
{
    turn(t->data);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
    (void)status;
    (void)events;
    turn(p->data);
}

static void handle_closed(uv_handle_t *handle)
{
    struct sl_http *h = handle->data;
    if (--h->handles > 0)
        return;
    if (h->mhd != NULL)
        MHD_stop_daemon(h->mhd);
    free(h);
}

void sl_http_close(struct sl_http *h)
{
    if (h == NULL)
        return;
    uv_close((uv_handle_t *)&h->timer, handle_closed);
    uv_close((uv_handle_t *)&h->poll, handle_closed);
}

static enum sl_code start(struct sl_http *h, const char *address, struct sl_err *err)
{
    struct sockaddr_storage sa;
    if (!sl_address_parse(address, &sa))
        return sl_err_set(err, SL_E_INPUT, "http: %s must be ADDRESS:PORT", address);
    unsigned flags = MHD_USE_EPOLL | (sa.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    h->mhd = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&sa,
                              MHD_OPTION_CONNECTION_LIMIT, (unsigned)SL_HTTP_CONNECTIONS,
                              MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SL_HTTP_IDLE_S, MHD_OPTION_END);
    if (h->mhd == NULL)
        return sl_err_set(err, SL_E_IO, "http: %s: %s", address, strerror(errno));
    return SL_OK;
}

enum sl_code sl_http_open(struct uv_loop_s *loop, const char *address,
                          const struct sl_command_env *env, struct sl_log *log,
                          struct sl_http **ret, struct sl_err *err)
{
    struct sl_http *h = sl_calloc(1, sizeof(*h));
    if (h == NULL)
        return sl_err_set(err, SL_E_NOMEM, "http");
    h->env = env;
    enum sl_code rc = start(h, address, err);
    const union MHD_DaemonInfo *fd = NULL, *port = NULL;
    if (rc == SL_OK) {
        fd = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD);
        port = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_BIND_PORT);
        if (fd == NULL || port == NULL || uv_poll_init(loop, &h->poll, fd->epoll_fd) != 0) {
            MHD_stop_daemon(h->mhd);
            rc = sl_err_set(err, SL_E_IO, "http: %s: cannot be watched", address);
        }
    }
    if (rc != SL_OK) {
        free(h);
        return rc;
    }
    uv_timer_init(loop, &h->timer);
    h->handles = 2;
    h->poll.data = h->timer.data = h;
    uv_poll_start(&h->poll, UV_READABLE, on_poll);
    const char *colon = strrchr(address, ':');
    sl_log_write(log, SL_LOG_INFO, "status page at http://%.*s:%u/", (int)(colon - address), address,
                 (unsigned)port->port);
    *ret = h;
    return SL_OK;
}
