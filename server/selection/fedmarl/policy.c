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
#define TIMES "times=log2" /* how features.h scales times: another scale is another policy */

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
        sscanf(text, "probe=%2u upload=%2u gate=%1u " TIMES "%n", &probe, &upload, &gate, &end) != 3 ||
        text[end] != '\0' || probe < 1 || probe > SL_FACTS_HISTORY || upload < 1 ||
        upload > SL_FACTS_HISTORY || gate > 1)
        return sl_err_set(err, SL_E_INPUT,
                          "%s: metadata fedmarl.features \"%.60s\" (probe=1..8 upload=1..8 "
                          "gate=0|1 " TIMES ")",
                          where, text == NULL ? "" : text);
    *ret = (struct sl_fedmarl_spec){.n_probe = probe, .n_upload = upload, .gate = gate == 1};
    return SL_OK;
}

/* The text of `usual`: 2 + 2 n_inputs numbers. */
#define USUAL_TEXT (32 * (2 + 2 * SL_FEDMARL_INPUTS_MAX))

static void print_usual(const struct sl_fedmarl_usual *u, uint32_t n_inputs, char ret[USUAL_TEXT])
{
    size_t at = (size_t)snprintf(ret, USUAL_TEXT, "%a %a", u->gap, u->fair);
    for (uint32_t i = 0; i < n_inputs; i++)
        at += (size_t)snprintf(ret + at, USUAL_TEXT - at, " %a %a", (double)u->lo[i],
                               (double)u->hi[i]);
}

static bool next_number(const char **text, double *ret)
{
    char *end;
    *ret = strtod(*text, &end);
    bool read = end != *text && isfinite(*ret);
    *text = end;
    return read;
}

static enum sl_code read_usual(const char *where, const struct sl_safetensors *s,
                               struct sl_fedmarl_policy *p, struct sl_err *err)
{
    const char *text = sl_safetensors_note(s, "fedmarl.usual");
    struct sl_fedmarl_usual u = {.known = true};
    if (text == NULL)
        return SL_OK;
    bool good = next_number(&text, &u.gap) && next_number(&text, &u.fair) && u.gap >= 0 &&
                u.fair >= 0 && u.fair <= 1;
    for (uint32_t i = 0; good && i < p->net.shape.n_inputs; i++) {
        double lo = 0, hi = 0;
        good = next_number(&text, &lo) && next_number(&text, &hi) && lo <= hi &&
               fabs(lo) <= SL_FEDMARL_CLAMP && fabs(hi) <= SL_FEDMARL_CLAMP;
        u.lo[i] = (float)lo;
        u.hi[i] = (float)hi;
    }
    if (!good || *text != '\0')
        return sl_err_set(err, SL_E_INPUT,
                          "%s: metadata fedmarl.usual is not a gap from 0, a share of 0 to 1, and low "
                          "and high, within +-%g, of %u inputs",
                          where, SL_FEDMARL_CLAMP, p->net.shape.n_inputs);
    p->usual = u;
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
    if (rc == SL_OK)
        rc = read_usual(where, &file, &p, err);
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
    struct sl_safetensors_note all[SL_FEDMARL_NOTES + 3];
    char spec[64], usual[USUAL_TEXT];
    size_t own = 2;
    assert(n_notes <= SL_FEDMARL_NOTES);
    snprintf(spec, sizeof(spec), "probe=%u upload=%u gate=%d " TIMES, p->spec.n_probe, p->spec.n_upload,
             p->spec.gate);
    all[0] = (struct sl_safetensors_note){"starling.kind", KIND};
    all[1] = (struct sl_safetensors_note){"fedmarl.features", spec};
    if (p->usual.known) {
        print_usual(&p->usual, p->net.shape.n_inputs, usual);
        all[own++] = (struct sl_safetensors_note){"fedmarl.usual", usual};
    }
    for (size_t i = 0; i < n_notes; i++)
        all[own + i] = notes[i];
    return sl_qnet_save(&p->net, all, n_notes + own, path, err);
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

static void settle_row(const struct sl_fedmarl_rails *rails, const struct sl_client_facts *f,
                       struct sl_fedmarl_decision *d)
{
    if (!f->reported || !isfinite(f->probe_loss) || d->why == SL_WHY_SILENT) {
        *d = (struct sl_fedmarl_decision){.why = SL_WHY_SILENT};
    } else if (d->why == SL_WHY_CAPPED || d->why == SL_WHY_QUARANTINED) {
        d->accept = 0;
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
    const bool last_a = d[a].why == SL_WHY_CAPPED || d[a].why == SL_WHY_QUARANTINED;
    const bool last_b = d[b].why == SL_WHY_CAPPED || d[b].why == SL_WHY_QUARANTINED;
    if (last_a != last_b)
        return last_b;
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

void sl_fedmarl_settle(const struct sl_fedmarl_rails *rails, const struct sl_client_facts *rows,
                       size_t n, struct sl_fedmarl_decision *io)
{
    assert(rails->min_accepted >= 1 && rails->cap_window >= 1);
    for (size_t i = 0; i < n; i++)
        settle_row(rails, &rows[i], &io[i]);
    fill_up(rails, rows, n, io);
}

void sl_fedmarl_decide(const struct sl_fedmarl_policy *p, const struct sl_fedmarl_rails *rails,
                       const struct sl_round_facts *round, const struct sl_client_facts *rows,
                       size_t n, float *scratch, struct sl_fedmarl_decision *ret)
{
    float *q = scratch + n * p->net.shape.n_inputs;
    sl_fedmarl_features(&p->spec, round, rows, n, scratch);
    sl_qnet_forward(&p->net, scratch, n, q);
    for (size_t i = 0; i < n; i++)
        ret[i] = (struct sl_fedmarl_decision){.q = {q[2 * i], q[2 * i + 1]},
                                              .accept = q[2 * i + 1] > q[2 * i],
                                              .why = SL_WHY_POLICY};
    sl_fedmarl_settle(rails, rows, n, ret);
}
