/* SPDX-License-Identifier: Apache-2.0 */
#include "server/admin.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "common/mem.h"

struct conn {
    uv_pipe_t pipe;
    struct sl_admin *admin;
    struct conn *next;
    char *line; /* what came since the last newline */
    size_t n, cap;
};

struct sl_admin {
    uv_pipe_t listener;
    const struct sl_command_env *env;
    struct conn *conns;
    unsigned handles; /* open uv handles; the last one to close frees */
    char path[108];
};

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

static void send_answer(struct conn *c, const struct sl_answer *ans)
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
    struct sl_answer ans = {.body = json_object()};
    struct sl_err err = {0};
    json_t *request = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);
    enum sl_code rc = json_is_object(request)
                          ? sl_command_run(c->admin->env, request, &ans, &err)
                          : sl_err_set(&err, SL_E_USAGE, "request: a JSON object expected");
    json_decref(request);
    if (rc == SL_OK) {
        json_object_set_new(ans.body, "ok", json_true());
        if (ans.n_bytes > 0)
            json_object_set_new(ans.body, "bytes", json_integer((json_int_t)ans.n_bytes));
    } else {
        json_decref(ans.body);
        ans = (struct sl_answer){.body = json_pack("{s:b, s:i, s:s}", "ok", 0, "code", (int)rc,
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
            struct sl_answer ans = {.body = json_pack("{s:b, s:i, s:s}", "ok", 0, "code",
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

enum sl_code sl_admin_open(struct uv_loop_s *loop, const char *path,
                           const struct sl_command_env *env, struct sl_admin **ret,
                           struct sl_err *err)
{
    if (strlen(path) >= sizeof(((struct sl_admin *)0)->path))
        return sl_err_set(err, SL_E_LIMIT, "admin_socket: %zu bytes (at most %zu allowed)",
                          strlen(path), sizeof(((struct sl_admin *)0)->path) - 1);
    enum sl_code rc = clear_path(path, err);
    if (rc != SL_OK)
        return rc;
    struct sl_admin *a = sl_calloc(1, sizeof(*a));
    if (a == NULL)
        return sl_err_set(err, SL_E_NOMEM, "admin socket");
    a->env = env;
    strcpy(a->path, path);
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
        return sl_err_set(err, SL_E_IO, "admin_socket: %s: %s", path, uv_strerror(e));
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
