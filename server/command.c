/* SPDX-License-Identifier: Apache-2.0 */
#include "server/command.h"

#include <sodium.h>
#include <string.h>

#include "common/hash.h"
#include "common/join_token.h"
#include "common/keyfile.h"
#include "common/plan.h"

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

static enum sl_code cmd_status(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
                               struct sl_err *err)
{
    json_t *status = sl_coordinator_status(env->coordinator, env->now_ms(env->ctx));
    if (status == NULL)
        return sl_err_set(err, SL_E_NOMEM, "status");
    env->add_status(env->ctx, status);
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

static enum sl_code cmd_clients(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
                                struct sl_err *err)
{
    json_t *list = json_array();
    json_object_set_new(ret->body, "clients", list);
    return env->store->ops->each_client(env->store, add_client, list, err);
}

static enum sl_code cmd_explain(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
                                struct sl_err *err)
{
    int64_t round;
    enum sl_code rc = get_int(req, "round", -1, SL_ROUNDS_MAX, -1, &round, err);
    if (rc != SL_OK)
        return rc;
    json_t *said = sl_coordinator_explain(env->coordinator, round, err);
    if (said == NULL)
        return err->code == SL_OK ? SL_E_NOTFOUND : err->code;
    json_object_set_new(ret->body, "explain", said);
    return SL_OK;
}

struct lines {
    json_t *list;
    int64_t skip;
};

static enum sl_code add_line(void *ctx, const char *json)
{
    struct lines *l = ctx;
    if (l->skip > 0) {
        l->skip--;
        return SL_OK;
    }
    json_t *line = json_loads(json, 0, NULL);
    if (line == NULL)
        return SL_E_STATE;
    json_array_append_new(l->list, line);
    return SL_OK;
}

static enum sl_code cmd_report(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
                               struct sl_err *err)
{
    int64_t run, from;
    enum sl_code rc = get_int(req, "run", 1, INT64_MAX, 0, &run, err);
    if (rc == SL_OK)
        rc = get_int(req, "from", 0, INT64_MAX, 0, &from, err);
    if (rc != SL_OK)
        return rc;
    if (run == 0)
        return sl_err_set(err, SL_E_USAGE, "run: the number of a run expected");
    struct lines l = {.list = json_array(), .skip = from};
    json_object_set_new(ret->body, "report", l.list);
    return env->store->ops->each_report(env->store, (uint64_t)run, add_line, &l, err);
}

static enum sl_code cmd_model(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
                              struct sl_err *err)
{
    const struct sl_layout *layout;
    const float *values = sl_coordinator_model(env->coordinator, &layout);
    if (values == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "no model yet: no run has started");
    if (json_is_true(json_object_get(req, "best"))) {
        float *best;
        enum sl_code rc = sl_coordinator_best(env->coordinator, &best, &layout, err);
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

static enum sl_code cmd_token(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
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
    memcpy(t.server, env->server_key, sizeof(t.server));
    memcpy(row.id, t.id, sizeof(row.id));
    memcpy(row.psk, t.psk, sizeof(row.psk));
    rc = sl_coordinator_token_add(env->coordinator, &row, err);
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

static enum sl_code cmd_approve(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
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
    return sl_coordinator_approve(env->coordinator, env->now_ms(env->ctx), &row,
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

static enum sl_code cmd_revoke(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
                               struct sl_err *err)
{
    int64_t index;
    enum sl_code rc = get_int(req, "index", 0, SL_CLIENTS_MAX - 1, -1, &index, err);
    if (rc != SL_OK)
        return rc;
    if (index < 0)
        return sl_err_set(err, SL_E_USAGE, "index: the client's number expected");
    struct find_index f = {.index = (uint32_t)index};
    rc = env->store->ops->each_client(env->store, match_index, &f, err);
    if (rc != SL_OK)
        return rc;
    if (!f.found)
        return sl_err_set(err, SL_E_NOTFOUND, "no enrolled client has index %lld",
                          (long long)index);
    rc = sl_coordinator_revoke(env->coordinator, env->now_ms(env->ctx), f.index,
                               err);
    if (rc == SL_OK)
        env->revoked(env->ctx, f.key);
    return rc;
}

static enum sl_code cmd_submit(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
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
    rc = sl_coordinator_submit(env->coordinator, env->now_ms(env->ctx), &plan,
                               &run, err);
    sl_plan_deinit(&plan);
    if (rc == SL_OK)
        json_object_set_new(ret->body, "run", json_integer((json_int_t)run));
    return rc;
}

static enum sl_code cmd_pause(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
                              struct sl_err *err)
{
    sl_coordinator_pause(env->coordinator, true);
    return SL_OK;
}

static enum sl_code cmd_resume(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
                               struct sl_err *err)
{
    sl_coordinator_pause(env->coordinator, false);
    sl_coordinator_time(env->coordinator, env->now_ms(env->ctx));
    return SL_OK;
}

static enum sl_code cmd_calibrate(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
                                  struct sl_err *err)
{
    return sl_coordinator_calibrate(env->coordinator, env->now_ms(env->ctx), err);
}

static enum sl_code cmd_drain(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
                              struct sl_err *err)
{
    env->drain(env->ctx);
    return SL_OK;
}

static const struct {
    const char *name;
    enum sl_code (*run)(const struct sl_command_env *env, const json_t *req, struct sl_answer *ret,
                        struct sl_err *err);
} commands[] = {
    {"status", cmd_status},   {"clients", cmd_clients}, {"explain", cmd_explain},
    {"report", cmd_report},   {"model", cmd_model},     {"token", cmd_token},
    {"approve", cmd_approve}, {"revoke", cmd_revoke},   {"submit", cmd_submit},
    {"pause", cmd_pause},     {"resume", cmd_resume},   {"drain", cmd_drain},
    {"calibrate", cmd_calibrate},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

enum sl_code sl_command_run(const struct sl_command_env *env, const json_t *request,
                            struct sl_answer *ret, struct sl_err *err)
{
    const char *name = NULL;
    enum sl_code rc = get_text(request, "cmd", &name, err);
    if (rc != SL_OK)
        return rc;
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(env, request, ret, err);
    return sl_err_set(err, SL_E_USAGE, "cmd: \"%.40s\" is unknown", name);
}
