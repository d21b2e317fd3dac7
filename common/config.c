/* SPDX-License-Identifier: Apache-2.0 */
#include "common/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "common/address.h"
#include "common/file.h"
#include "common/schema.h"

#define TOKEN_FILE_BYTES 4096

static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const datasets[] = {"fashion-mnist", "idx", "cifar10", "csv", "npz",
                                       "synthetic", NULL};
static const char *const matmuls[] = {"plan", "fp32", "fast", "tr", "rtn", NULL};
SL_ACCELERATOR_NAMES;

/* --- server ------------------------------------------------------------------------------------ */

/* What a file says, before it becomes a config. */
struct server_file {
    struct sl_server_config c;
    char sync[16];
};

#define SERVER(field)                                                                    \
    .offset = offsetof(struct server_file, field),                                       \
    .size = sizeof(((struct server_file *)0)->field)

static const char *const syncs[] = {"commit", "every-update", NULL};

static const struct sl_row server_rows[] = {
    {.path = "listen", .type = SL_FIELD_TEXT, SERVER(c.listen),
     .flags = SL_ROW_REQUIRED | SL_ROW_FILLED},
    {.path = "state_dir", .type = SL_FIELD_PATH, SERVER(c.state_dir),
     .flags = SL_ROW_REQUIRED | SL_ROW_FILLED},
    {.path = "identity", .type = SL_FIELD_PATH, SERVER(c.identity), .flags = SL_ROW_FILLED},
    {.path = "admin_socket", .type = SL_FIELD_PATH, SERVER(c.admin_socket),
     .flags = SL_ROW_FILLED},
    {.path = "http", .type = SL_FIELD_TEXT, SERVER(c.http), .flags = SL_ROW_FILLED},
    {.path = "log", .type = SL_FIELD_ENUM, SERVER(c.log), .names = log_levels},
    {.path = "limits.max_clients", .type = SL_FIELD_WHOLE, SERVER(c.max_clients), .lo = 1,
     .hi = SL_CLIENTS_MAX},
    {.path = "limits.handshakes_per_s", .type = SL_FIELD_WHOLE, SERVER(c.handshakes_per_s),
     .lo = 0, .hi = 1000000, .unit = "handshakes a second"},
    {.path = "limits.requests_per_client", .type = SL_FIELD_WHOLE,
     SERVER(c.requests_per_client), .lo = 4, .hi = 65536},
    {.path = "state.sync", .type = SL_FIELD_WORD, SERVER(sync), .names = syncs},
    {.path = "data.dataset", .type = SL_FIELD_WORD, SERVER(c.dataset), .names = datasets},
    {.path = "data.path", .type = SL_FIELD_PATH, SERVER(c.data_path), .flags = SL_ROW_FILLED},
};
static const struct sl_schema server_schema = {server_rows,
                                               sizeof(server_rows) / sizeof(server_rows[0])};

/* --- client ------------------------------------------------------------------------------------ */

struct client_file {
    struct sl_client_config c;
    uint32_t matmul; /* of matmuls */
    char join_token_file[SL_CONFIG_PATH];
};

#define CLIENT(field)                                                                    \
    .offset = offsetof(struct client_file, field),                                       \
    .size = sizeof(((struct client_file *)0)->field)

#define HARDWARE(field) CLIENT(c.hardware.accelerator.field)

static const struct sl_row client_rows[] = {
    {.path = "coordinator", .type = SL_FIELD_TEXT, CLIENT(c.coordinator),
     .flags = SL_ROW_REQUIRED | SL_ROW_FILLED},
    {.path = "coordinator_key", .type = SL_FIELD_TEXT, CLIENT(c.coordinator_key),
     .flags = SL_ROW_FILLED},
    {.path = "identity", .type = SL_FIELD_PATH, CLIENT(c.identity), .flags = SL_ROW_FILLED},
    {.path = "join_token", .type = SL_FIELD_TEXT, CLIENT(c.join_token), .flags = SL_ROW_FILLED},
    {.path = "join_token_file", .type = SL_FIELD_PATH, CLIENT(join_token_file),
     .flags = SL_ROW_FILLED},
    {.path = "name", .type = SL_FIELD_TEXT, CLIENT(c.name)},
    {.path = "index", .type = SL_FIELD_INT, CLIENT(c.index), .lo = -1, .hi = SL_CLIENTS_MAX - 1},
    {.path = "state_dir", .type = SL_FIELD_PATH, CLIENT(c.state_dir),
     .flags = SL_ROW_REQUIRED | SL_ROW_FILLED},
    {.path = "data.dataset", .type = SL_FIELD_WORD, CLIENT(c.data.dataset), .names = datasets},
    {.path = "data.path", .type = SL_FIELD_PATH, CLIENT(c.data.path), .flags = SL_ROW_FILLED},
    {.path = "data.limit", .type = SL_FIELD_WHOLE, CLIENT(c.data.limit), .lo = 0,
     .hi = UINT64_C(1000000000000), .unit = "samples"},
    {.path = "hardware.matmul", .type = SL_FIELD_ENUM, CLIENT(matmul), .names = matmuls},
    SL_ACCELERATOR_ROWS("hardware.", HARDWARE, 2 << SL_MATMUL_FAST, 2 << SL_MATMUL_TR,
                        2 << SL_MATMUL_RTN),
    {.path = "threads", .type = SL_FIELD_WHOLE, CLIENT(c.threads), .lo = 1, .hi = 256},
    {.path = "log", .type = SL_FIELD_ENUM, CLIENT(c.log), .names = log_levels},
    {.path = "slowdown", .type = SL_FIELD_REAL, CLIENT(c.slowdown), .min = 1, .max = 1000},
};
static const struct sl_schema client_schema = {client_rows,
                                               sizeof(client_rows) / sizeof(client_rows[0])};

/* --- both -------------------------------------------------------------------------------------- */

struct source {
    const char *text;
    size_t n;
    const char *where, *folder;
    const struct sl_plan_override *overrides;
    size_t n_overrides;
};

static enum sl_code bind_text(const struct source *from, const struct sl_schema *schema, void *object,
                         struct sl_yaml_doc *doc, struct sl_err *err)
{
    const struct sl_schema_in in = {.where = from->where, .folder = from->folder};
    enum sl_code rc = sl_yaml_parse(from->text, from->n, from->where, doc, err);
    for (size_t i = 0; i < from->n_overrides && rc == SL_OK; i++)
        rc = sl_yaml_set(doc, from->overrides[i].text, err);
    return rc == SL_OK ? sl_schema_bind(schema, &in, doc->root, object, err) : rc;
}

/* Fills an empty path with DIR/NAME. */
static enum sl_code place(const char *dir, const char *name, const char *key, const char *where,
                          char ret[SL_CONFIG_PATH], struct sl_err *err)
{
    if (ret[0] != '\0')
        return SL_OK;
    size_t n_dir = strlen(dir), n = n_dir + 1 + strlen(name);
    if (n >= SL_CONFIG_PATH)
        return sl_err_set(err, SL_E_LIMIT, "%.220s: %s: state_dir/%s is %zu bytes (at most %d)",
                          where, key, name, n, SL_CONFIG_PATH - 1);
    memcpy(ret, dir, n_dir);
    ret[n_dir] = '/';
    strcpy(ret + n_dir + 1, name);
    return SL_OK;
}

static enum sl_code check_url(const struct source *from, const struct sl_yaml_doc *doc,
                              const char *key, const char *url, struct sl_err *err)
{
    const struct sl_schema_in in = {.where = from->where};
    const char *host = url + 6, *colon = strrchr(url, ':');
    bool port = colon != NULL && colon > host && colon[1] != '\0' && strlen(colon + 1) <= 5 &&
                strspn(colon + 1, "0123456789") == strlen(colon + 1) && atoi(colon + 1) <= 65535;
    if (strncmp(url, "tcp://", 6) == 0 && port)
        return SL_OK;
    return sl_schema_fail(&in, sl_yaml_get(doc->root, key), key, err, SL_E_INPUT,
                          "%.60s must be tcp://HOST:PORT (port 0 to 65535)", url);
}

static enum sl_code check_address(const struct source *from, const struct sl_yaml_doc *doc,
                                  const char *key, const char *text, struct sl_err *err)
{
    const struct sl_schema_in in = {.where = from->where};
    struct sockaddr_storage sa;
    if (sl_address_parse(text, &sa))
        return SL_OK;
    return sl_schema_fail(&in, sl_yaml_get(doc->root, key), key, err, SL_E_INPUT,
                          "%.60s must be ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080", text);
}

/* Options of a synthetic set are no path. */
static void keep_options(const struct sl_yaml_doc *doc, const char *dataset,
                         char path[SL_CONFIG_PATH])
{
    const struct sl_yaml_node *node = sl_yaml_get(sl_yaml_get(doc->root, "data"), "path");
    if (strcmp(dataset, "synthetic") == 0 && node != NULL)
        snprintf(path, SL_CONFIG_PATH, "%s", node->text);
}

enum sl_code sl_server_config_parse(const char *text, size_t n, const char *where,
                                    const char *folder,
                                    const struct sl_plan_override *overrides,
                                    size_t n_overrides, struct sl_server_config *ret,
                                    struct sl_err *err)
{
    const struct source from = {text, n, where, folder, overrides, n_overrides};
    struct sl_yaml_doc doc = {0};
    struct server_file f = {.c = {.log = SL_LOG_INFO,
                                  .max_clients = 10000,
                                  .handshakes_per_s = 1000,
                                  .requests_per_client = 64}};
    enum sl_code rc = bind_text(&from, &server_schema, &f, &doc, err);
    if (rc == SL_OK)
        rc = check_url(&from, &doc, "listen", f.c.listen, err);
    if (rc == SL_OK && f.c.http[0] != '\0')
        rc = check_address(&from, &doc, "http", f.c.http, err);
    if (rc == SL_OK)
        rc = place(f.c.state_dir, "identity", "identity", where, f.c.identity, err);
    if (rc == SL_OK)
        rc = place(f.c.state_dir, "admin.sock", "admin_socket", where, f.c.admin_socket, err);
    if (rc == SL_OK)
        keep_options(&doc, f.c.dataset, f.c.data_path);
    sl_yaml_deinit(&doc);
    if (rc != SL_OK)
        return rc;
    f.c.sync_every_update = strcmp(f.sync, "every-update") == 0;
    *ret = f.c;
    return SL_OK;
}

/* The first word of the token's file. The file may be missing (removed after the enrolment) when
 * the coordinator's key is known without it. */
static enum sl_code read_token(const char *path, bool may_miss, char ret[SL_CONFIG_TOKEN],
                               struct sl_err *err)
{
    uint8_t *bytes;
    size_t n;
    enum sl_code rc = sl_file_read(path, TOKEN_FILE_BYTES, &bytes, &n, err);
    if (rc == SL_E_NOTFOUND && may_miss)
        return SL_OK;
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "join_token_file");
    const char *token = (const char *)bytes;
    token += strspn(token, " \t\r\n");
    size_t length = strcspn(token, " \t\r\n");
    if (length == 0 || length >= SL_CONFIG_TOKEN)
        rc = sl_err_set(err, SL_E_INPUT, "join_token_file: %.300s: no token in it", path);
    else
        snprintf(ret, SL_CONFIG_TOKEN, "%.*s", (int)length, token);
    sodium_memzero(bytes, n);
    free(bytes);
    return rc;
}

static enum sl_code finish_client(const struct source *from, const struct sl_yaml_doc *doc,
                                  struct client_file *f, struct sl_err *err)
{
    const struct sl_schema_in in = {.where = from->where};
    enum sl_code rc = check_url(from, doc, "coordinator", f->c.coordinator, err);
    if (rc == SL_OK && f->c.join_token[0] != '\0' && f->join_token_file[0] != '\0')
        rc = sl_schema_fail(&in, sl_yaml_get(doc->root, "join_token_file"), "join_token_file",
                            err, SL_E_INPUT, "only one of join_token and join_token_file");
    if (rc == SL_OK && f->join_token_file[0] != '\0')
        rc = read_token(f->join_token_file, f->c.coordinator_key[0] != '\0', f->c.join_token,
                        err);
    if (rc == SL_OK && f->c.join_token[0] == '\0' && f->c.coordinator_key[0] == '\0')
        rc = sl_schema_fail(&in, NULL, "coordinator_key", err, SL_E_INPUT,
                            "is missing (it or a join token must be given)");
    if (rc == SL_OK)
        rc = place(f->c.state_dir, "identity", "identity", from->where, f->c.identity, err);
    if (rc == SL_OK)
        keep_options(doc, f->c.data.dataset, f->c.data.path);
    f->c.hardware.given = f->matmul > 0;
    if (f->matmul > 0)
        f->c.hardware.accelerator.matmul = (enum sl_matmul_kind)(f->matmul - 1);
    return rc;
}

enum sl_code sl_client_config_parse(const char *text, size_t n, const char *where,
                                    const char *folder,
                                    const struct sl_plan_override *overrides,
                                    size_t n_overrides, struct sl_client_config *ret,
                                    struct sl_err *err)
{
    const struct source from = {text, n, where, folder, overrides, n_overrides};
    struct sl_yaml_doc doc = {0};
    struct client_file f = {
        .c = {.index = -1,
              .threads = 1,
              .log = SL_LOG_INFO,
              .slowdown = 1.0,
              .hardware.accelerator = SL_ACCELERATOR_DEFAULTS}};
    enum sl_code rc = bind_text(&from, &client_schema, &f, &doc, err);
    if (rc == SL_OK)
        rc = finish_client(&from, &doc, &f, err);
    sl_yaml_deinit(&doc);
    if (rc == SL_OK)
        *ret = f.c;
    sodium_memzero(&f, sizeof(f));
    return rc;
}

static enum sl_code load_file(const char *path, char folder[SL_CONFIG_PATH], uint8_t **ret,
                              size_t *ret_n, struct sl_err *err)
{
    if (!sl_path_folder(path, folder, SL_CONFIG_PATH))
        return sl_err_set(err, SL_E_LIMIT, "%.60s...: a path of more than %d bytes", path,
                          SL_CONFIG_PATH - 1);
    return sl_file_read(path, SL_YAML_BYTES, ret, ret_n, err);
}

enum sl_code sl_server_config_load(const char *path, const struct sl_plan_override *overrides,
                                   size_t n_overrides, struct sl_server_config *ret,
                                   struct sl_err *err)
{
    char folder[SL_CONFIG_PATH];
    uint8_t *text;
    size_t n;
    enum sl_code rc = load_file(path, folder, &text, &n, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_server_config_parse((const char *)text, n, path, folder, overrides, n_overrides, ret,
                                err);
    free(text);
    return rc;
}

enum sl_code sl_client_config_load(const char *path, const struct sl_plan_override *overrides,
                                   size_t n_overrides, struct sl_client_config *ret,
                                   struct sl_err *err)
{
    char folder[SL_CONFIG_PATH];
    uint8_t *text;
    size_t n;
    enum sl_code rc = load_file(path, folder, &text, &n, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_client_config_parse((const char *)text, n, path, folder, overrides, n_overrides, ret,
                                err);
    sodium_memzero(text, n);
    free(text);
    return rc;
}

void sl_server_config_deinit(struct sl_server_config *c)
{
    if (c != NULL)
        *c = (struct sl_server_config){0};
}

void sl_client_config_deinit(struct sl_client_config *c)
{
    if (c != NULL)
        sodium_memzero(c, sizeof(*c));
}
