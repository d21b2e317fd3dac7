/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/selection/fedmarl/vdn_state.h"

#define FILE_MAX ((size_t)1 << 30)
#define EXTRAS_MAX 4
#define NOTES_MAX 16
#define OWN_NOTES 2

/* Options and counters as texts: doubles in hexadecimal, so that they come back exactly. */
static void describe(const struct sl_vdn_options *o, char *ret, size_t size)
{
    snprintf(ret, size,
             "inputs %u hidden %u layers %u actions %u agents %u gamma %a lr %a clip %a replay %u "
             "batch %u warmup %u target %u double %d huber %d credit %d epsilon %a %a %" PRIu64
             " seed %" PRIu64,
             o->shape.n_inputs, o->shape.hidden, o->shape.layers, o->shape.n_actions, o->n_agents,
             o->gamma, o->lr, o->clip_norm, o->replay, o->batch, o->warmup, o->target_every,
             o->double_q, o->huber, o->credit, o->epsilon_start, o->epsilon_end, o->epsilon_steps, o->seed);
}

static struct sl_safetensors_item matrix(const char *name, size_t rows, size_t cols,
                                         const float *values)
{
    return (struct sl_safetensors_item){
        .name = name, .n_dims = 2, .dim = {rows, cols}, .values = values};
}

/* Actions, own rewards and steps of the replay as floats: [stored, 2 n_agents + 3]. */
static float *replay_facts(const struct sl_vdn *v)
{
    const size_t agents = v->options.n_agents, cols = 2 * agents + 3;
    float *ret = sl_calloc((size_t)v->stored + 1, cols * sizeof(float));
    for (size_t i = 0; ret != NULL && i < v->stored; i++) {
        float *f = ret + i * cols, *step = f + 2 * agents;
        for (size_t a = 0; a < agents; a++) {
            f[a] = v->actions[i * agents + a];
            f[agents + a] = v->own[i * agents + a];
        }
        step[0] = v->steps[i].reward;
        step[1] = (float)v->steps[i].n;
        step[2] = (float)v->steps[i].n_next;
    }
    return ret;
}

enum sl_code sl_vdn_save(const struct sl_vdn *v, const struct sl_vdn_extra *extras,
                         size_t n_extras, const struct sl_safetensors_note *notes, size_t n_notes,
                         const char *path, struct sl_err *err)
{
    struct sl_safetensors_item items[6 + EXTRAS_MAX];
    struct sl_safetensors_note all[NOTES_MAX];
    char options[512], counters[160];
    const size_t row = (size_t)v->options.n_agents * v->options.shape.n_inputs;
    size_t n_items = 0, n = 0;
    float *facts = replay_facts(v);
    if (facts == NULL || n_extras > EXTRAS_MAX || n_notes + OWN_NOTES > NOTES_MAX) {
        free(facts);
        return sl_err_set(err, SL_E_NOMEM, "%s: the learner's state", path);
    }
    describe(&v->options, options, sizeof(options));
    snprintf(counters, sizeof(counters), "%" PRIu64 " %" PRIu64 " %u %u %a %a", v->updates,
             v->adam.step, v->stored, v->at, v->adam.power1, v->adam.power2);
    all[0] = (struct sl_safetensors_note){"learner.options", options};
    all[1] = (struct sl_safetensors_note){"learner.counters", counters};
    memcpy(all + OWN_NOTES, notes, n_notes * sizeof(notes[0]));
    items[n_items++] = matrix("net", 1, v->net.n_values, v->net.values);
    items[n_items++] = matrix("target", 1, v->net.n_values, v->target.values);
    items[n_items++] = matrix("moments", 2, v->net.n_values, v->moments);
    items[n_items++] = matrix("replay.s", v->stored, row, v->s);
    items[n_items++] = matrix("replay.next", v->stored, row, v->next);
    items[n_items++] = matrix("replay.facts", v->stored, 2 * (size_t)v->options.n_agents + 3, facts);
    for (size_t i = 0; i < n_extras; i++)
        items[n_items++] = matrix(extras[i].name, 1, extras[i].net->n_values, extras[i].net->values);
    uint8_t *bytes = NULL;
    enum sl_code rc = sl_safetensors_encode_noted(items, n_items, all, n_notes + OWN_NOTES, &bytes,
                                                  &n, err);
    if (rc == SL_OK)
        rc = sl_file_write_atomic(path, bytes, n, true, err);
    free(bytes);
    free(facts);
    return rc;
}

static enum sl_code take(const char *path, const struct sl_safetensors *s, const char *name,
                         size_t rows, size_t cols, float *ret, struct sl_err *err)
{
    const struct sl_safetensor *t = sl_safetensors_find(s, name);
    if (t == NULL || t->n_dims != 2 || t->dim[0] != rows || t->dim[1] != cols)
        return sl_err_set(err, SL_E_INPUT, "%s: tensor \"%s\" is missing or not [%zu, %zu]", path,
                          name, rows, cols);
    sl_safetensors_floats(t, ret);
    for (size_t i = 0; i < t->n; i++)
        if (!isfinite(ret[i]))
            return sl_err_set(err, SL_E_INPUT, "%s: tensor \"%s\": value %zu is not finite", path,
                              name, i);
    return SL_OK;
}

static enum sl_code read_counters(const char *path, const struct sl_safetensors *s,
                                  struct sl_vdn *v, struct sl_err *err)
{
    char options[512];
    const char *had = sl_safetensors_note(s, "learner.options");
    const char *text = sl_safetensors_note(s, "learner.counters");
    describe(&v->options, options, sizeof(options));
    if (had == NULL || text == NULL)
        return sl_err_set(err, SL_E_INPUT, "%s: not a learner's state", path);
    if (strcmp(had, options) != 0)
        return sl_err_set(err, SL_E_INPUT, "%s: of a learner with other options (%.200s)", path,
                          had);
    if (sscanf(text, "%" SCNu64 " %" SCNu64 " %u %u %la %la", &v->updates, &v->adam.step,
               &v->stored, &v->at, &v->adam.power1, &v->adam.power2) != 6 ||
        v->stored > v->options.replay || v->at >= v->options.replay)
        return sl_err_set(err, SL_E_INPUT, "%s: counters \"%.80s\" make no sense", path, text);
    return SL_OK;
}

static enum sl_code read_replay(const char *path, const struct sl_safetensors *s,
                                struct sl_vdn *v, struct sl_err *err)
{
    const size_t agents = v->options.n_agents, cols = 2 * agents + 3;
    const size_t row = agents * v->options.shape.n_inputs;
    float *facts = sl_calloc((size_t)v->stored + 1, cols * sizeof(float));
    if (facts == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%s: replay", path);
    enum sl_code rc = take(path, s, "replay.s", v->stored, row, v->s, err);
    if (rc == SL_OK)
        rc = take(path, s, "replay.next", v->stored, row, v->next, err);
    if (rc == SL_OK)
        rc = take(path, s, "replay.facts", v->stored, cols, facts, err);
    for (size_t i = 0; rc == SL_OK && i < v->stored; i++) {
        const float *f = facts + i * cols, *step = f + 2 * agents;
        bool fits = step[1] >= 1 && step[1] <= (float)agents && step[2] >= 0 &&
                    step[2] <= (float)agents;
        for (size_t a = 0; a < agents; a++)
            fits = fits && f[a] >= 0 && f[a] < (float)v->options.shape.n_actions;
        if (!fits) {
            rc = sl_err_set(err, SL_E_INPUT, "%s: replay entry %zu makes no sense", path, i);
            break;
        }
        for (size_t a = 0; a < agents; a++)
            v->actions[i * agents + a] = (uint8_t)f[a];
        memcpy(v->own + i * agents, f + agents, agents * sizeof(float));
        v->steps[i] = (struct sl_vdn_step){
            .reward = step[0], .n = (uint32_t)step[1], .n_next = (uint32_t)step[2]};
    }
    free(facts);
    return rc;
}

enum sl_code sl_vdn_load(struct sl_vdn *v, const struct sl_vdn_extra *extras, size_t n_extras,
                         const char *path, struct sl_safetensors *ret_file, uint8_t **ret_bytes,
                         struct sl_err *err)
{
    struct sl_safetensors s = {0};
    uint8_t *bytes = NULL;
    size_t n = 0;
    const size_t values = v->net.n_values;
    enum sl_code rc = sl_file_read(path, FILE_MAX, &bytes, &n, err);
    if (rc == SL_OK)
        rc = sl_safetensors_open(path, bytes, n, &s, err);
    if (rc == SL_OK)
        rc = read_counters(path, &s, v, err);
    if (rc == SL_OK)
        rc = take(path, &s, "net", 1, values, v->net.values, err);
    if (rc == SL_OK)
        rc = take(path, &s, "target", 1, values, v->target.values, err);
    if (rc == SL_OK)
        rc = take(path, &s, "moments", 2, values, v->moments, err);
    if (rc == SL_OK)
        rc = read_replay(path, &s, v, err);
    for (size_t i = 0; rc == SL_OK && i < n_extras; i++)
        rc = take(path, &s, extras[i].name, 1, extras[i].net->n_values, extras[i].net->values,
                  err);
    if (rc != SL_OK) {
        sl_safetensors_deinit(&s);
        free(bytes);
        return rc;
    }
    *ret_file = s;
    *ret_bytes = bytes;
    return SL_OK;
}
