/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX ((size_t)256 << 20)

enum sl_code sl_ctl_open(const char *path, struct sl_ctl_link *ret, struct sl_err *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(sa.sun_path))
        return sl_err_set(err, SL_E_USAGE, "socket path of %zu bytes (at most %zu allowed)",
                          strlen(path), sizeof(sa.sun_path) - 1);
    strcpy(sa.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return sl_err_errno(err, errno, "socket");
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        int e = errno;
        close(fd);
        return sl_err_set(err, SL_E_UNREACHABLE, "%s: %s (is starling-server running?)", path,
                          strerror(e));
    }
    *ret = (struct sl_ctl_link){.fd = fd};
    return SL_OK;
}

void sl_ctl_close(struct sl_ctl_link *l)
{
    if (l->fd >= 0)
        close(l->fd);
    free(l->buf);
    *l = (struct sl_ctl_link){.fd = -1};
}

static enum sl_code write_all(int fd, const char *p, size_t n, struct sl_err *err)
{
    while (n > 0) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return sl_err_set(err, SL_E_UNREACHABLE, "admin socket: %s", strerror(errno));
        p += k;
        n -= (size_t)k;
    }
    return SL_OK;
}

/* Reads until at least `want` bytes are buffered, or once when want is 0. */
static enum sl_code fill(struct sl_ctl_link *l, size_t want, struct sl_err *err)
{
    do {
        if (l->cap - l->n < 65536) {
            size_t cap = l->cap == 0 ? 65536 * 2 : l->cap * 2;
            char *more = cap > ANSWER_MAX ? NULL : realloc(l->buf, cap);
            if (more == NULL)
                return sl_err_set(err, SL_E_NOMEM, "answer beyond %zu bytes", ANSWER_MAX);
            l->buf = more;
            l->cap = cap;
        }
        ssize_t k = recv(l->fd, l->buf + l->n, l->cap - l->n, 0);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return sl_err_set(err, SL_E_UNREACHABLE, "the coordinator closed the admin socket");
        l->n += (size_t)k;
    } while (l->n < want);
    return SL_OK;
}

enum sl_code sl_ctl_ask(struct sl_ctl_link *l, json_t *request, json_t **ret, struct sl_err *err)
{
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    if (text == NULL)
        return sl_err_set(err, SL_E_NOMEM, "request");
    enum sl_code rc = write_all(l->fd, text, strlen(text), err);
    free(text);
    if (rc == SL_OK)
        rc = write_all(l->fd, "\n", 1, err);
    char *end = NULL;
    size_t seen = 0;
    while (rc == SL_OK && (l->n == seen || (end = memchr(l->buf + seen, '\n', l->n - seen)) == NULL)) {
        seen = l->n;
        rc = fill(l, 0, err);
    }
    if (rc != SL_OK)
        return rc;
    size_t n = (size_t)(end - l->buf);
    json_t *answer = json_loadb(l->buf, n, 0, NULL);
    memmove(l->buf, end + 1, l->n - n - 1);
    l->n -= n + 1;
    if (!json_is_object(answer)) {
        json_decref(answer);
        return sl_err_set(err, SL_E_PROTO, "the answer is not a JSON object");
    }
    if (!json_is_true(json_object_get(answer, "ok"))) {
        const char *why = json_string_value(json_object_get(answer, "error"));
        int code = (int)json_integer_value(json_object_get(answer, "code"));
        rc = sl_err_set(err, code > SL_OK && code <= SL_E_BUG ? (enum sl_code)code : SL_E_FAILED,
                        "%s", why != NULL ? why : "refused without a reason");
        json_decref(answer);
        return rc;
    }
    *ret = answer;
    return SL_OK;
}

enum sl_code sl_ctl_bytes(struct sl_ctl_link *l, void *ret, size_t n, struct sl_err *err)
{
    size_t have = l->n < n ? l->n : n;
    memcpy(ret, l->buf, have);
    memmove(l->buf, l->buf + have, l->n - have);
    l->n -= have;
    char *to = ret;
    while (have < n) {
        ssize_t k = recv(l->fd, to + have, n - have, 0);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return sl_err_set(err, SL_E_UNREACHABLE, "the coordinator closed the admin socket");
        have += (size_t)k;
    }
    return SL_OK;
}
