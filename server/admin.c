/* SPDX-License-Identifier: Apache-2.0 */
#include "server/admin.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "common/hash.h"
#include "common/join_token.h"
#include "common/keyfile.h"
#include "common/mem.h"
#include "common/plan.h"

struct conn {
    uv_pipe_t pipe;
    struct sl_admin *admin;
    struct conn *next;
    char *line; /* what came since the last newline */
    size_t n, cap;
};

struct sl_admin {
    uv_pipe_t listener;
    struct sl_admin_config config;
    struct conn *conns;
    unsigned handles; /* open uv handles; the last one to close frees */
    char path[108];
};

/* What a command answers: an object, and maybe bytes behind it. */
struct answer {
    json_t *body;
    const void *bytes; /* borrowed until the write is made (it is copied) */
    size_t n_bytes;
    void *owned; /* freed after that */
};

/* --- commands --------------------------------------------------------------------------------- */

static enum sl_code get_int(const json_t *req, const char *key, int64_t min, int64_t max,
                            int64_t fallback, int64_t *ret, struct sl_err *err)
{
    const json_t *v = json_object_get(req, key);
    if (v == NULL || json_is_null(v)) {
        *ret = fallback;
        return SL_OK;
    }
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return sl_err_set(err, SL_E_USAGE, "%s: a whole number from %lld to %lld expected", key,
                          (long long)min, (long long)max);
    *ret = json_integer_value(v);
    return SL_OK;
}

static enum sl_code get_text(const json_t *req, const char *key, const char **ret,
                             struct sl_err *err)
{
    const json_t *v = json_object_get(req, key);
    if (!json_is_string(v))
        return sl_err_set(err, SL_E_USAGE, "%s: a text expected", key);
    *ret = json_string_value(v);
    return SL_OK;
}

static enum sl_code cmd_status(struct sl_admin *a, const json_t *req, struct answer *ret,
                               struct sl_err *err)
{
    json_t *status = sl_coordinator_status(a->config.coordinator, a->config.now_ms(a->config.ctx));
    if (status == NULL)
        return sl_err_set(err, SL_E_NOMEM, "status");
    a->config.add_status(a->config.ctx, status);
    json_object_set_new(ret->body, "status", status);
    return SL_OK;
}

static enum sl_code add_client(void *ctx, const struct sl_client_row *row)
{
    static const char *const states[] = {"pending", "enrolled", "revoked"};
    char hex[SL_KEYFILE_HEX];
    sl_key_format(row->key, hex);
    json_array_append_new(ctx, json_pack("{s:I, s:s, s:s, s:s}", "index", (json_int_t)row->index,
                                         "name", row->name, "state", states[row->state], "key",
                                         hex));
    return SL_OK;
}

static enum sl_code cmd_clients(struct sl_admin *a, const json_t *req, struct answer *ret,
                                struct sl_err *err)
{
    json_t *list = json_array();
    json_object_set_new(ret->body, "clients", list);
    return a->config.store->ops->each_client(a->config.store, add_client, list, err);
}

static enum sl_code cmd_explain(struct sl_admin *a, const json_t *req, struct answer *ret,
                                struct sl_err *err)
{
    int64_t round;
    enum sl_code rc = get_int(req, "round", -1, SL_ROUNDS_MAX, -1, &round, err);
    if (rc != SL_OK)
        return rc;
    json_t *said = sl_coordinator_explain(a->config.coordinator, round, err);
    if (said == NULL)
        return err->code == SL_OK ? SL_E_NOTFOUND : err->code;
    json_object_set_new(ret->body, "explain", said);
    return SL_OK;
}

static enum sl_code add_line(void *ctx, const char *json)
{
    json_t *line = json_loads(json, 0, NULL);
    if (line == NULL)
        return SL_E_STATE;
    json_array_append_new(ctx, line);
    return SL_OK;
}

static enum sl_code cmd_report(struct sl_admin *a, const json_t *req, struct answer *ret,
                               struct sl_err *err)
{
    int64_t run;
    enum sl_code rc = get_int(req, "run", 1, INT64_MAX, 0, &run, err);
    if (rc != SL_OK)
        return rc;
    if (run == 0)
        return sl_err_set(err, SL_E_USAGE, "run: the number of a run expected");
    json_t *lines = json_array();
    json_object_set_new(ret->body, "report", lines);
    return a->config.store->ops->each_report(a->config.store, (uint64_t)run, add_line, lines,
                                             err);
}

static enum sl_code cmd_model(struct sl_admin *a, const json_t *req, struct answer *ret,
                              struct sl_err *err)
{
    const struct sl_layout *layout;
    const float *values = sl_coordinator_model(a->config.coordinator, &layout);
    if (values == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "no model yet: no run has started");
    if (json_is_true(json_object_get(req, "best"))) {
        float *best;
        enum sl_code rc = sl_coordinator_best(a->config.coordinator, &best, &layout, err);
        if (rc != SL_OK)
            return rc;
        ret->owned = best;
        values = best;
    }
    json_t *tensors = json_array();
    for (size_t i = 0; i < layout->n_tensors; i++) {
        const struct sl_tensor *t = &layout->tensors[i];
        json_t *shape = json_array();
        for (unsigned d = 0; d < t->n_dims; d++)
            json_array_append_new(shape, json_integer(t->dim[d]));
        json_array_append_new(tensors, json_pack("{s:s, s:i, s:o}", "name", t->name, "role",
                                                 (int)t->role, "shape", shape));
    }
    json_object_set_new(ret->body, "tensors", tensors);
    ret->bytes = values;
    ret->n_bytes = layout->n_values * sizeof(float);
    return SL_OK;
}

static enum sl_code cmd_token(struct sl_admin *a, const json_t *req, struct answer *ret,
                              struct sl_err *err)
{
    int64_t index;
    enum sl_code rc = get_int(req, "index", 0, SL_CLIENTS_MAX - 1, -1, &index, err);
    if (rc != SL_OK)
        return rc;
    struct sl_join_token t;
    struct sl_token_row row = {.index = (int32_t)index};
    randombytes_buf(t.id, sizeof(t.id));
    randombytes_buf(t.psk, sizeof(t.psk));
    memcpy(t.server, a->config.server_key, sizeof(t.server));
    memcpy(row.id, t.id, sizeof(row.id));
    memcpy(row.psk, t.psk, sizeof(row.psk));
    rc = sl_coordinator_token_add(a->config.coordinator, &row, err);
    if (rc == SL_OK) {
        char text[SL_JOIN_TOKEN_TEXT];
        sl_join_token_format(&t, text);
        json_object_set_new(ret->body, "token", json_string(text));
        sodium_memzero(text, sizeof(text));
    }
    sodium_memzero(&t, sizeof(t));
    sodium_memzero(&row, sizeof(row));
    return rc;
}

static enum sl_code cmd_approve(struct sl_admin *a, const json_t *req, struct answer *ret,
                                struct sl_err *err)
{
    struct sl_client_row row = {.state = SL_CLIENT_ENROLLED};
    const char *key = NULL, *name = NULL;
    int64_t index;
    enum sl_code rc = get_text(req, "key", &key, err);
    if (rc == SL_OK)
        rc = sl_key_parse(key, row.key, err);
    if (rc == SL_OK)
        rc = get_text(req, "name", &name, err);
    if (rc == SL_OK)
        rc = get_int(req, "index", 0, SL_CLIENTS_MAX - 1, -1, &index, err);
    if (rc != SL_OK)
        return rc;
    if (index < 0)
        return sl_err_set(err, SL_E_USAGE, "index: the client's number expected");
    if (strlen(name) >= sizeof(row.name) || name[0] == '\0')
        return sl_err_set(err, SL_E_USAGE, "name: 1 to %zu bytes expected", sizeof(row.name) - 1);
    strcpy(row.name, name);
    row.index = (uint32_t)index;
    return sl_coordinator_approve(a->config.coordinator, a->config.now_ms(a->config.ctx), &row,
                                  err);
}

struct find_index {
    uint32_t index;
    bool found;
    uint8_t key[SL_KEY_BYTES];
};

static enum sl_code match_index(void *ctx, const struct sl_client_row *row)
{
    struct find_index *f = ctx;
    if (row->index == f->index && row->state == SL_CLIENT_ENROLLED) {
        f->found = true;
        memcpy(f->key, row->key, sizeof(f->key));
    }
    return SL_OK;
}

static enum sl_code cmd_revoke(struct sl_admin *a, const json_t *req, struct answer *ret,
                               struct sl_err *err)
{
    int64_t index;
    enum sl_code rc = get_int(req, "index", 0, SL_CLIENTS_MAX - 1, -1, &index, err);
    if (rc != SL_OK)
        return rc;
    if (index < 0)
        return sl_err_set(err, SL_E_USAGE, "index: the client's number expected");
    struct find_index f = {.index = (uint32_t)index};
    rc = a->config.store->ops->each_client(a->config.store, match_index, &f, err);
    if (rc != SL_OK)
        return rc;
    if (!f.found)
        return sl_err_set(err, SL_E_NOTFOUND, "no enrolled client has index %lld",
                          (long long)index);
    rc = sl_coordinator_revoke(a->config.coordinator, a->config.now_ms(a->config.ctx), f.index,
                               err);
    if (rc == SL_OK)
        a->config.revoked(a->config.ctx, f.key);
    return rc;
}

static enum sl_code cmd_submit(struct sl_admin *a, const json_t *req, struct answer *ret,
                               struct sl_err *err)
{
    const char *text = NULL;
    enum sl_code rc = get_text(req, "plan", &text, err);
    if (rc != SL_OK)
        return rc;
    struct sl_plan plan;
    rc = sl_plan_parse(text, strlen(text), "plan", NULL, 0, &plan, err);
    if (rc != SL_OK)
        return rc;
    uint64_t run;
    rc = sl_coordinator_submit(a->config.coordinator, a->config.now_ms(a->config.ctx), &plan,
                               &run, err);
    sl_plan_deinit(&plan);
    if (rc == SL_OK)
        json_object_set_new(ret->body, "run", json_integer((json_int_t)run));
    return rc;
}

static enum sl_code cmd_pause(struct sl_admin *a, const json_t *req, struct answer *ret,
                              struct sl_err *err)
{
    sl_coordinator_pause(a->config.coordinator, true);
    return SL_OK;
}

static enum sl_code cmd_resume(struct sl_admin *a, const json_t *req, struct answer *ret,
                               struct sl_err *err)
{
    sl_coordinator_pause(a->config.coordinator, false);
    sl_coordinator_time(a->config.coordinator, a->config.now_ms(a->config.ctx));
    return SL_OK;
}

static enum sl_code cmd_calibrate(struct sl_admin *a, const json_t *req, struct answer *ret,
                                  struct sl_err *err)
{
    return sl_coordinator_calibrate(a->config.coordinator, a->config.now_ms(a->config.ctx), err);
}

static enum sl_code cmd_drain(struct sl_admin *a, const json_t *req, struct answer *ret,
                              struct sl_err *err)
{
    a->config.drain(a->config.ctx);
    return SL_OK;
}

static const struct {
    const char *name;
    enum sl_code (*run)(struct sl_admin *a, const json_t *req, struct answer *ret,
                        struct sl_err *err);
} commands[] = {
    {"status", cmd_status},   {"clients", cmd_clients}, {"explain", cmd_explain},
    {"report", cmd_report},   {"model", cmd_model},     {"token", cmd_token},
    {"approve", cmd_approve}, {"revoke", cmd_revoke},   {"submit", cmd_submit},
    {"pause", cmd_pause},     {"resume", cmd_resume},   {"drain", cmd_drain},
    {"calibrate", cmd_calibrate},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static enum sl_code dispatch(struct sl_admin *a, const char *line, size_t n, struct answer *ret,
                             struct sl_err *err)
{
    json_error_t je;
    json_t *req = json_loadb(line, n, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(req)) {
        json_decref(req);
        return sl_err_set(err, SL_E_USAGE, "request: a JSON object expected");
    }
    const char *name = NULL;
    enum sl_code rc = get_text(req, "cmd", &name, err);
    if (rc == SL_OK) {
        rc = sl_err_set(err, SL_E_USAGE, "cmd: \"%.40s\" is unknown", name);
        for (size_t i = 0; i < N_COMMANDS; i++)
            if (strcmp(commands[i].name, name) == 0) {
                *err = (struct sl_err){0};
                rc = commands[i].run(a, req, ret, err);
            }
    }
    json_decref(req);
    return rc;
}

/* --- connections ------------------------------------------------------------------------------ */

static void maybe_free(struct sl_admin *a)
{
    if (--a->handles == 0)
        free(a);
}

static void conn_closed(uv_handle_t *h)
{
    struct conn *c = h->data;
    struct sl_admin *a = c->admin;
    for (struct conn **at = &a->conns; *at != NULL; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    free(c->line);
    free(c);
    maybe_free(a);
}

static void conn_close(struct conn *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->pipe))
        uv_close((uv_handle_t *)&c->pipe, conn_closed);
}

struct write_req {
    uv_write_t req;
    uint8_t *bytes;
};

static void written(uv_write_t *req, int status)
{
    struct write_req *w = (struct write_req *)req;
    struct conn *c = req->handle->data;
    free(w->bytes);
    free(w);
    if (status < 0)
        conn_close(c);
}

static void send_answer(struct conn *c, const struct answer *ans)
{
    char *text = json_dumps(ans->body, JSON_COMPACT | JSON_REAL_PRECISION(17));
    struct write_req *w = sl_calloc(1, sizeof(*w));
    size_t n = text == NULL ? 0 : strlen(text) + 1;
    if (text == NULL || w == NULL || (w->bytes = malloc(n + ans->n_bytes)) == NULL) {
        free(text);
        free(w);
        conn_close(c);
        return;
    }
    memcpy(w->bytes, text, n - 1);
    w->bytes[n - 1] = '\n';
    if (ans->n_bytes > 0)
        memcpy(w->bytes + n, ans->bytes, ans->n_bytes);
    free(text);
    uv_buf_t buf = uv_buf_init((char *)w->bytes, (unsigned)(n + ans->n_bytes));
    if (uv_write(&w->req, (uv_stream_t *)&c->pipe, &buf, 1, written) != 0) {
        free(w->bytes);
        free(w);
        conn_close(c);
    }
}

static void answer_line(struct conn *c, const char *line, size_t n)
{
    struct answer ans = {.body = json_object()};
    struct sl_err err = {0};
    enum sl_code rc = dispatch(c->admin, line, n, &ans, &err);
    if (rc == SL_OK) {
        json_object_set_new(ans.body, "ok", json_true());
        if (ans.n_bytes > 0)
            json_object_set_new(ans.body, "bytes", json_integer((json_int_t)ans.n_bytes));
    } else {
        json_decref(ans.body);
        ans = (struct answer){.body = json_pack("{s:b, s:i, s:s}", "ok", 0, "code", (int)rc,
                                                "error", err.msg[0] != '\0'
                                                             ? err.msg
                                                             : sl_code_text(rc))};
    }
    if (ans.body == NULL) {
        conn_close(c);
        return;
    }
    send_answer(c, &ans);
    free(ans.owned);
    json_decref(ans.body);
}

static void conn_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct conn *c = h->data;
    (void)suggested;
    if (c->cap - c->n < 4096 && c->cap < SL_ADMIN_LINE_MAX) {
        size_t cap = c->cap == 0 ? 8192 : c->cap * 2;
        char *more = realloc(c->line, cap);
        if (more != NULL) {
            c->line = more;
            c->cap = cap;
        }
    }
    *buf = uv_buf_init(c->line + c->n, (unsigned)(c->cap - c->n)); /* 0 left: read fails */
}

static void conn_read(uv_stream_t *stream, ssize_t n_read, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    (void)buf;
    if (n_read < 0) {
        if (n_read == UV_ENOBUFS) {
            struct answer ans = {.body = json_pack("{s:b, s:i, s:s}", "ok", 0, "code",
                                                   (int)SL_E_LIMIT, "error",
                                                   "request: line too long")};
            if (ans.body != NULL)
                send_answer(c, &ans);
            json_decref(ans.body);
        }
        conn_close(c);
        return;
    }
    c->n += (size_t)n_read;
    char *end;
    while (c->n > 0 && (end = memchr(c->line, '\n', c->n)) != NULL) {
        size_t n = (size_t)(end - c->line);
        answer_line(c, c->line, n);
        memmove(c->line, end + 1, c->n - n - 1);
        c->n -= n + 1;
    }
}

static void on_connection(uv_stream_t *server, int status)
{
    struct sl_admin *a = server->data;
    struct conn *c;
    if (status < 0 || (c = sl_calloc(1, sizeof(*c))) == NULL)
        return;
    if (uv_pipe_init(server->loop, &c->pipe, 0) != 0) {
        free(c);
        return;
    }
    c->pipe.data = c;
    c->admin = a;
    c->next = a->conns;
    a->conns = c;
    a->handles++;
    if (uv_accept(server, (uv_stream_t *)&c->pipe) != 0 ||
        uv_read_start((uv_stream_t *)&c->pipe, conn_alloc, conn_read) != 0)
        conn_close(c);
}

/* --- life ------------------------------------------------------------------------------------- */

/* Removes a socket file that nobody listens at. */
static enum sl_code clear_path(const char *path, struct sl_err *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct stat st;
    if (lstat(path, &st) != 0)
        return SL_OK;
    if (!S_ISSOCK(st.st_mode))
        return sl_err_set(err, SL_E_EXISTS, "admin_socket: %s exists and is not a socket", path);
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool alive = fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
    if (fd >= 0)
        close(fd);
    if (alive)
        return sl_err_set(err, SL_E_EXISTS, "admin_socket: another coordinator answers at %s",
                          path);
    unlink(path);
    return SL_OK;
}

static void listener_closed(uv_handle_t *h)
{
    maybe_free(h->data);
}

enum sl_code sl_admin_open(struct uv_loop_s *loop, const struct sl_admin_config *config,
                           struct sl_admin **ret, struct sl_err *err)
{
    if (strlen(config->path) >= sizeof(((struct sl_admin *)0)->path))
        return sl_err_set(err, SL_E_LIMIT, "admin_socket: %zu bytes (at most %zu allowed)",
                          strlen(config->path), sizeof(((struct sl_admin *)0)->path) - 1);
    enum sl_code rc = clear_path(config->path, err);
    if (rc != SL_OK)
        return rc;
    struct sl_admin *a = sl_calloc(1, sizeof(*a));
    if (a == NULL)
        return sl_err_set(err, SL_E_NOMEM, "admin socket");
    a->config = *config;
    strcpy(a->path, config->path);
    if (uv_pipe_init(loop, &a->listener, 0) != 0) {
        free(a);
        return sl_err_set(err, SL_E_NOMEM, "admin socket");
    }
    a->listener.data = a;
    a->handles = 1;
    mode_t old = umask(0177);
    int e = uv_pipe_bind(&a->listener, a->path);
    umask(old);
    if (e == 0)
        e = uv_listen((uv_stream_t *)&a->listener, 16, on_connection);
    if (e != 0) {
        uv_close((uv_handle_t *)&a->listener, listener_closed);
        return sl_err_set(err, SL_E_IO, "admin_socket: %s: %s", config->path, uv_strerror(e));
    }
    *ret = a;
    return SL_OK;
}

void sl_admin_close(struct sl_admin *a)
{
    if (a == NULL)
        return;
    for (struct conn *c = a->conns; c != NULL; c = c->next)
        conn_close(c);
    unlink(a->path);
    uv_close((uv_handle_t *)&a->listener, listener_closed);
}
