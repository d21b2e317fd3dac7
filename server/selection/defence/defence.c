/* SPDX-License-Identifier: Apache-2.0 */
#include "server/selection/defence/defence.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "server/selection/decide.h"

/* Streams of a client's round, beside those of decide.c. */
enum { DRAW_CHECK = 10, DRAW_FAIR = 11, DRAW_NOISE = 12 };

#define RATIOS_LEAST 8         /* before they foretell a deadline */
#define RATIO_QUANTILE 0.75    /* what one client of a cohort cannot move far */
#define FEW 3                  /* finish times that do not say much: the factor counts twice */
#define MAD_TO_DEVIATION 1.4826 /* of a normal distribution */

static const char *const names[SL_DEFENCES] = {"own",      "claim",    "clamp",     "margin", "cap",
                                               "deadline", "detector", "smoothing", "freeze"};

const char *sl_defence_name(unsigned d)
{
    return d < SL_DEFENCES ? names[d] : NULL;
}

static bool is_on(const struct sl_defence_options *o, enum sl_defence d)
{
    return (o->on & SL_DEFENCE_BIT(d)) != 0;
}

enum sl_code sl_defence_check(const struct sl_defence_options *o,
                              const struct sl_fedmarl_policy *policy, struct sl_err *err)
{
    if (!(o->claim_share >= 0 && o->claim_share <= 1) || !(o->claim_deviations > 0) ||
        !(o->claim_floor > 0) || !(o->first_loss > 0))
        return sl_err_set(err, SL_E_RANGE,
                          "claim: share %g, deviations %g, floor %g, first loss %g (0 to 1, the "
                          "others above 0)",
                          o->claim_share, o->claim_deviations, o->claim_floor, o->first_loss);
    if (o->cap_window < 1 || o->cap_window > 64 || o->cap_most < 1 ||
        o->cap_most > o->cap_window || o->force_after < 1)
        return sl_err_set(err, SL_E_RANGE,
                          "cap: %u of %u, forced after %u (1 to the window, 1 to 64, from 1)",
                          o->cap_most, o->cap_window, o->force_after);
    if (!(o->deadline_factor >= 1) || !(o->deadline_quantile > 0 && o->deadline_quantile <= 1))
        return sl_err_set(err, SL_E_RANGE, "deadline: factor %g, quantile %g (from 1, above 0 to 1)",
                          o->deadline_factor, o->deadline_quantile);
    if (!(o->drift > 0) || !(o->limit > 0) || o->copies < 1 || !(o->sigma >= 0))
        return sl_err_set(err, SL_E_RANGE,
                          "detector: drift %g, limit %g (above 0); smoothing: copies %u, sigma %g "
                          "(from 1, from 0)",
                          o->drift, o->limit, o->copies, o->sigma);
    if ((is_on(o, SL_DEFENCE_CLAMP) || is_on(o, SL_DEFENCE_MARGIN)) && !policy->usual.known)
        return sl_err_set(err, SL_E_INPUT,
                          "clamp and margin want a policy that says what is usual (metadata "
                          "fedmarl.usual; train-policy writes it)");
    return SL_OK;
}

static void stream(const struct sl_round_facts *r, uint32_t client, uint32_t what,
                   struct sl_rng *ret)
{
    sl_rng_init(ret, &(struct sl_rng_id){.seed = r->seed,
                                         .purpose = SL_RNG_POLICY,
                                         .client = client,
                                         .round = r->round,
                                         .step = what});
}

static int ascending(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;
    return (a > b) - (a < b);
}

/* Of n >= 1 values, at most SL_DEFENCE_RING. */
static double quantile(const double *x, uint32_t n, double q)
{
    double sorted[SL_DEFENCE_RING];
    memcpy(sorted, x, n * sizeof(double));
    qsort(sorted, n, sizeof(double), ascending);
    uint32_t at = (uint32_t)ceil(q * n);
    return sorted[at > 0 ? at - 1 : 0];
}

static uint32_t held(uint32_t n)
{
    return n < SL_DEFENCE_RING ? n : SL_DEFENCE_RING;
}

/* --- before the decision ---------------------------------------------------------------------- */

bool sl_defence_wants_check(const struct sl_defence_options *o, const struct sl_round_facts *round,
                            uint32_t client, const struct sl_defence_client *c)
{
    struct sl_rng rng;
    if (!is_on(o, SL_DEFENCE_CLAIM))
        return false;
    stream(round, client, DRAW_CHECK, &rng);
    return c->caught > 0 || sl_rng_f64(&rng) < o->claim_share;
}

/* Compares; a claim that does not hold becomes the check. */
static bool check_claim(const struct sl_defence_input *in, struct sl_defence_state *s, double check,
                        struct sl_client_facts *f, struct sl_defence_client *c)
{
    const struct sl_defence_options *o = in->o;
    const double off = fabs(f->probe_loss - check) / in->round->loss_scale;
    double spread = o->claim_floor;
    if (s->n_off > 0) {
        double mad = MAD_TO_DEVIATION * quantile(s->off, held(s->n_off), 0.5);
        spread = mad > spread ? mad : spread;
    }
    s->off[s->n_off % SL_DEFENCE_RING] = off;
    s->n_off++;
    if (off <= o->claim_deviations * spread)
        return false;
    f->probe_loss = check;
    c->caught++;
    return true;
}

static bool is_possible(const struct sl_defence_input *in, const struct sl_client_facts *f)
{
    const double first = in->o->first_loss * in->round->loss_scale;
    return f->probe_loss >= 0 && (in->round->round > 0 || f->probe_loss <= first);
}

/* The facts that are believed. */
static struct sl_client_facts believe(const struct sl_defence_input *in,
                                      struct sl_defence_state *state, size_t row,
                                      struct sl_defence_client *c, struct sl_defence_mark *mark)
{
    const struct sl_defence_options *o = in->o;
    struct sl_client_facts f = in->rows[row];
    if (c->samples == 0)
        c->samples = f.samples;
    if (is_on(o, SL_DEFENCE_OWN) && (f.samples != c->samples || f.upload_bytes != in->upload_bytes)) {
        f.samples = c->samples;
        f.upload_bytes = in->upload_bytes;
        mark->acted |= SL_DEFENCE_BIT(SL_DEFENCE_OWN);
    }
    const double check = in->checks != NULL ? in->checks[row] : NAN;
    if (is_on(o, SL_DEFENCE_CLAIM) && isfinite(check) && f.reported && isfinite(f.probe_loss) &&
        check_claim(in, state, check, &f, c))
        mark->acted |= SL_DEFENCE_BIT(SL_DEFENCE_CLAIM);
    if (is_on(o, SL_DEFENCE_CLAMP) && f.reported && !is_possible(in, &f)) {
        f.reported = false;
        mark->acted |= SL_DEFENCE_BIT(SL_DEFENCE_CLAMP);
    }
    return f;
}

static bool clamp(const struct sl_fedmarl_usual *u, float *x, uint32_t n)
{
    bool moved = false;
    for (uint32_t i = 0; i < n; i++) {
        float y = x[i] < u->lo[i] ? u->lo[i] : x[i] > u->hi[i] ? u->hi[i] : x[i];
        moved = moved || y != x[i];
        x[i] = y;
    }
    return moved;
}

/* --- the decision ----------------------------------------------------------------------------- */

static bool vote(const struct sl_defence_input *in, const float *x, uint32_t client)
{
    const uint32_t n = in->policy->net.shape.n_inputs;
    float noisy[SL_FEDMARL_INPUTS_MAX], q[2];
    uint32_t go = 0;
    struct sl_rng rng;
    stream(in->round, client, DRAW_NOISE, &rng);
    for (uint32_t k = 0; k < in->o->copies; k++) {
        for (uint32_t i = 0; i < n; i++)
            noisy[i] = (float)(x[i] + in->o->sigma * sl_rng_normal(&rng));
        sl_qnet_forward(&in->policy->net, noisy, 1, q);
        go += q[SL_FEDMARL_GO] > q[SL_FEDMARL_STOP];
    }
    return 2 * go > in->o->copies;
}

static void judge(const struct sl_defence_input *in, const float *x, uint32_t client,
                  struct sl_fedmarl_decision *d, struct sl_defence_mark *mark)
{
    const bool plain = d->q[SL_FEDMARL_GO] > d->q[SL_FEDMARL_STOP];
    struct sl_rng rng;
    d->accept = plain;
    d->why = SL_WHY_POLICY;
    if (is_on(in->o, SL_DEFENCE_MARGIN) &&
        fabs((double)d->q[SL_FEDMARL_GO] - d->q[SL_FEDMARL_STOP]) <= in->policy->usual.gap) {
        stream(in->round, client, DRAW_FAIR, &rng);
        d->accept = sl_rng_f64(&rng) < in->policy->usual.fair;
        d->why = SL_WHY_DRAWN;
        mark->acted |= SL_DEFENCE_BIT(SL_DEFENCE_MARGIN);
    } else if (is_on(in->o, SL_DEFENCE_SMOOTHING)) {
        d->accept = vote(in, x, client);
        if (d->accept != plain)
            mark->acted |= SL_DEFENCE_BIT(SL_DEFENCE_SMOOTHING);
    }
}

static uint64_t window_of(const struct sl_defence_options *o)
{
    return o->cap_window >= 64 ? UINT64_MAX : (1ull << o->cap_window) - 1;
}

int sl_defence_bound(const struct sl_defence_options *o, const struct sl_defence_client *c)
{
    if (c->out > 0)
        return SL_FEDMARL_STOP;
    if (!is_on(o, SL_DEFENCE_CAP))
        return -1;
    if ((uint32_t)__builtin_popcountll(c->accepted & window_of(o)) >= o->cap_most)
        return SL_FEDMARL_STOP;
    return c->refused >= o->force_after ? SL_FEDMARL_GO : -1;
}

static void bind(const struct sl_defence_options *o, const struct sl_defence_client *c,
                 struct sl_fedmarl_decision *d, struct sl_defence_mark *mark)
{
    const int bound = sl_defence_bound(o, c);
    if (bound < 0 || d->why == SL_WHY_SILENT)
        return;
    if (c->out > 0) {
        d->why = SL_WHY_QUARANTINED;
        mark->acted |= o->on & (SL_DEFENCE_BIT(SL_DEFENCE_DEADLINE) |
                                SL_DEFENCE_BIT(SL_DEFENCE_DETECTOR));
    } else {
        if (d->accept != bound)
            mark->acted |= SL_DEFENCE_BIT(SL_DEFENCE_CAP);
        d->why = bound == SL_FEDMARL_STOP  ? SL_WHY_CAPPED
                 : d->accept != bound      ? SL_WHY_FORCED
                                           : d->why;
    }
    d->accept = (uint8_t)bound;
}

static bool is_suspect(const struct sl_defence_options *o, const struct sl_defence_client *c)
{
    const double near = o->limit / 2;
    return c->caught > 0 || c->out > 0 ||
           (is_on(o, SL_DEFENCE_DETECTOR) &&
            (c->sum_claim > near || c->sum_time > near || c->sum_team > near));
}

double sl_defence_foretold_s(const struct sl_round_facts *round, const struct sl_client_facts *row)
{
    struct sl_client_facts newcomer = *row;
    newcomer.n_upload = 0;
    return sl_decide_rest_s(round, &newcomer);
}

double sl_defence_deadline_s(const struct sl_defence_options *o, const struct sl_defence_state *state,
                             const struct sl_round_facts *round, const struct sl_client_facts *row,
                             const struct sl_defence_client *c)
{
    double deadline_s = 0;
    if (!is_on(o, SL_DEFENCE_DEADLINE))
        return 0;
    if (state->n_ratio >= RATIOS_LEAST)
        deadline_s = o->deadline_factor * o->deadline_factor *
                     quantile(state->ratio, held(state->n_ratio), RATIO_QUANTILE) *
                     sl_defence_foretold_s(round, row);
    if (c->n_finish > 0) {
        double own_s =
            o->deadline_factor * quantile(c->finish_s, c->n_finish, o->deadline_quantile);
        if (c->n_finish < FEW)
            own_s *= o->deadline_factor;
        if (deadline_s == 0 || own_s < deadline_s)
            deadline_s = own_s;
    }
    return deadline_s;
}

void sl_defence_decide(const struct sl_defence_input *in, struct sl_defence_state *state,
                       struct sl_defence_client *const *clients, float *scratch,
                       struct sl_fedmarl_decision *ret, struct sl_defence_mark *marks)
{
    const uint32_t width = in->policy->net.shape.n_inputs;
    for (size_t i = 0; i < in->n; i++) {
        float *x = scratch + i * width;
        marks[i] = (struct sl_defence_mark){0};
        ret[i] = (struct sl_fedmarl_decision){.why = SL_WHY_SILENT};
        const struct sl_client_facts f = believe(in, state, i, clients[i], &marks[i]);
        sl_fedmarl_features(&in->policy->spec, in->round, &f, 1, x);
        if (is_on(in->o, SL_DEFENCE_CLAMP) && clamp(&in->policy->usual, x, width))
            marks[i].acted |= SL_DEFENCE_BIT(SL_DEFENCE_CLAMP);
        if (!f.reported)
            continue;
        sl_qnet_forward(&in->policy->net, x, 1, ret[i].q);
        judge(in, x, f.client, &ret[i], &marks[i]);
        bind(in->o, clients[i], &ret[i], &marks[i]);
    }
    sl_fedmarl_settle(in->rails, in->rows, in->n, ret);
    for (size_t i = 0; i < in->n; i++) {
        marks[i].suspect = is_suspect(in->o, clients[i]);
        if (ret[i].accept)
            marks[i].deadline_s =
                sl_defence_deadline_s(in->o, state, in->round, &in->rows[i], clients[i]);
    }
}
