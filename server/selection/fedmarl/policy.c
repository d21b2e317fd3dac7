/* SPDX-License-Identifier: Apache-2.0 */
#include "server/selection/fedmarl/policy.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"

#define KIND "fedmarl-policy"
#define FILE_MAX ((size_t)64 << 20)

static enum sl_code read_spec(const char *where, const struct sl_safetensors *s,
                              struct sl_fedmarl_spec *ret, struct sl_err *err)
{
    const char *kind = sl_safetensors_note(s, "starling.kind");
    const char *text = sl_safetensors_note(s, "fedmarl.features");
    if (kind == NULL || strcmp(kind, KIND) != 0)
        return sl_err_set(err, SL_E_INPUT,
                          "%s: not a policy file (metadata starling.kind is not " KIND ")", where);
    unsigned probe, upload, gate;
    int end = 0;
    if (text == NULL ||
        sscanf(text, "probe=%2u upload=%2u gate=%1u%n", &probe, &upload, &gate, &end) != 3 ||
        text[end] != '\0' || probe < 1 || probe > SL_FACTS_HISTORY || upload < 1 ||
        upload > SL_FACTS_HISTORY || gate > 1)
        return sl_err_set(err, SL_E_INPUT,
                          "%s: metadata fedmarl.features \"%.60s\" (probe=1..8 upload=1..8 "
                          "gate=0|1)",
                          where, text == NULL ? "" : text);
    *ret = (struct sl_fedmarl_spec){.n_probe = probe, .n_upload = upload, .gate = gate == 1};
    return SL_OK;
}

static enum sl_code check_fit(const char *where, const struct sl_fedmarl_policy *p,
                              struct sl_err *err)
{
    if (p->net.shape.n_actions != 2)
        return sl_err_set(err, SL_E_INPUT, "%s: a policy of %u actions (2: stop, go)", where,
                          p->net.shape.n_actions);
    if (p->net.shape.n_inputs != sl_fedmarl_n_inputs(&p->spec))
        return sl_err_set(err, SL_E_INPUT,
                          "%s: tensor \"fc1.weight\" takes %u inputs, fedmarl.features says %u",
                          where, p->net.shape.n_inputs, sl_fedmarl_n_inputs(&p->spec));
    return SL_OK;
}

enum sl_code sl_fedmarl_policy_parse(const char *where, const uint8_t *bytes, size_t n,
                                     struct sl_fedmarl_policy *ret, struct sl_err *err)
{
    struct sl_fedmarl_policy p = {0};
    struct sl_safetensors file = {0};
    enum sl_code rc = sl_qnet_parse(where, bytes, n, &p.net, &file, err);
    if (rc == SL_OK)
        rc = read_spec(where, &file, &p.spec, err);
    if (rc == SL_OK)
        rc = check_fit(where, &p, err);
    sl_safetensors_deinit(&file);
    if (rc != SL_OK) {
        sl_fedmarl_policy_deinit(&p);
        return rc;
    }
    *ret = p;
    return SL_OK;
}

enum sl_code sl_fedmarl_policy_load(const char *path, struct sl_fedmarl_policy *ret,
                                    struct sl_err *err)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    enum sl_code rc = sl_file_read(path, FILE_MAX, &bytes, &n, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_fedmarl_policy_parse(path, bytes, n, ret, err);
    free(bytes);
    return rc;
}

enum sl_code sl_fedmarl_policy_save(const struct sl_fedmarl_policy *p,
                                    const struct sl_safetensors_note *notes, size_t n_notes,
                                    const char *path, struct sl_err *err)
{
    struct sl_safetensors_note all[SL_FEDMARL_NOTES + 2];
    char spec[48];
    assert(n_notes <= SL_FEDMARL_NOTES);
    snprintf(spec, sizeof(spec), "probe=%u upload=%u gate=%d", p->spec.n_probe, p->spec.n_upload,
             p->spec.gate);
    all[0] = (struct sl_safetensors_note){"starling.kind", KIND};
    all[1] = (struct sl_safetensors_note){"fedmarl.features", spec};
    for (size_t i = 0; i < n_notes; i++)
        all[2 + i] = notes[i];
    return sl_qnet_save(&p->net, all, n_notes + 2, path, err);
}

void sl_fedmarl_policy_deinit(struct sl_fedmarl_policy *p)
{
    if (p == NULL)
        return;
    sl_qnet_deinit(&p->net);
    *p = (struct sl_fedmarl_policy){0};
}

/* --- deciding --------------------------------------------------------------------------------- */

size_t sl_fedmarl_scratch(const struct sl_fedmarl_policy *p, size_t n)
{
    return n * (p->net.shape.n_inputs + (size_t)p->net.shape.n_actions);
}

static bool capped(const struct sl_fedmarl_rails *rails, const struct sl_client_facts *f)
{
    uint64_t window = rails->cap_window >= 64 ? UINT64_MAX : (1ull << rails->cap_window) - 1;
    return rails->cap > 0 &&
           (uint32_t)__builtin_popcountll(f->accepted & window) >= rails->cap;
}

static void decide_row(const struct sl_fedmarl_rails *rails, const struct sl_client_facts *f,
                       struct sl_fedmarl_decision *d)
{
    d->why = SL_WHY_POLICY;
    d->accept = d->q[SL_FEDMARL_GO] > d->q[SL_FEDMARL_STOP];
    if (!f->reported || !isfinite(f->probe_loss)) {
        *d = (struct sl_fedmarl_decision){.why = SL_WHY_SILENT};
    } else if (capped(rails, f)) {
        d->accept = 0;
        d->why = SL_WHY_CAPPED;
    } else if (!d->accept && rails->force_after > 0 && f->idle_rounds >= rails->force_after) {
        d->accept = 1;
        d->why = SL_WHY_FORCED;
    }
}

/* Does row a join before row b? */
static bool before(const struct sl_client_facts *rows, const struct sl_fedmarl_decision *d,
                   size_t a, size_t b)
{
    if ((d[a].why == SL_WHY_CAPPED) != (d[b].why == SL_WHY_CAPPED))
        return d[b].why == SL_WHY_CAPPED;
    float gain_a = d[a].q[SL_FEDMARL_GO] - d[a].q[SL_FEDMARL_STOP];
    float gain_b = d[b].q[SL_FEDMARL_GO] - d[b].q[SL_FEDMARL_STOP];
    if (gain_a != gain_b)
        return gain_a > gain_b;
    return rows[a].client < rows[b].client;
}

static void fill_up(const struct sl_fedmarl_rails *rails, const struct sl_client_facts *rows,
                    size_t n, struct sl_fedmarl_decision *d)
{
    size_t accepted = 0;
    for (size_t i = 0; i < n; i++)
        accepted += d[i].accept;
    for (; accepted < rails->min_accepted; accepted++) {
        size_t best = n;
        for (size_t i = 0; i < n; i++)
            if (!d[i].accept && d[i].why != SL_WHY_SILENT &&
                (best == n || before(rows, d, i, best)))
                best = i;
        if (best == n)
            return;
        d[best].accept = 1;
        d[best].why = SL_WHY_MINIMUM;
    }
}

void sl_fedmarl_decide(const struct sl_fedmarl_policy *p, const struct sl_fedmarl_rails *rails,
                       const struct sl_round_facts *round, const struct sl_client_facts *rows,
                       size_t n, float *scratch, struct sl_fedmarl_decision *ret)
{
    float *q = scratch + n * p->net.shape.n_inputs;
    assert(rails->min_accepted >= 1 && rails->cap_window >= 1);
    sl_fedmarl_features(&p->spec, round, rows, n, scratch);
    sl_qnet_forward(&p->net, scratch, n, q);
    for (size_t i = 0; i < n; i++) {
        ret[i] = (struct sl_fedmarl_decision){.q = {q[2 * i], q[2 * i + 1]}};
        decide_row(rails, &rows[i], &ret[i]);
    }
    fill_up(rails, rows, n, ret);
}
