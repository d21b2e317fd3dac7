/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/units/fast.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "accel/units/fast_operand.h"
#include "common/mem.h"

struct sl_fast_options sl_fast_defaults(void)
{
    return (struct sl_fast_options){.precision = SL_FAST_ADAPTIVE,
                                    .m = {4, 4, 4},
                                    .g = 16,
                                    .e = 4,
                                    .round = SL_BFP_TRUNCATE,
                                    .round_gradient = SL_BFP_CTR,
                                    .alpha = 0.6,
                                    .beta = 0.3,
                                    .refresh = 1,
                                    .rows = 256,
                                    .cols = 64,
                                    .hz = 500e6,
                                    .e_pass = 1.0,
                                    .e_bit = 0.01};
}

static uint32_t fixed_m(const struct sl_fast_options *o, int tensor)
{
    if (o->precision == SL_FAST_FIXED)
        return o->m[tensor];
    return o->precision == SL_FAST_LOW ? 2 : 4;
}

static uint32_t largest_m(const struct sl_fast_options *o)
{
    uint32_t largest = 0;
    for (int i = 0; i < SL_FAST_TENSORS; i++)
        largest = fixed_m(o, i) > largest ? fixed_m(o, i) : largest;
    return largest;
}

#define G_MAX 65536 /* sums of one-bit groups stay exact far beyond; memory does not */

enum sl_code sl_fast_check(const struct sl_fast_options *o, struct sl_err *err)
{
    struct sl_bfp_options b = {.g = o->g, .e = o->e};
    enum sl_code rc = SL_OK;
    for (int i = 0; i < SL_FAST_TENSORS && rc == SL_OK; i++) {
        b.m = fixed_m(o, i);
        rc = sl_bfp_check(&b, err);
    }
    if (rc == SL_OK && o->g > G_MAX)
        return sl_err_set(err, SL_E_RANGE, "group size g %" PRIu32 " (1 to %d)", o->g,
                          G_MAX);
    if (rc == SL_OK)
        rc = sl_bfp_check_product(o->g, largest_m(o), largest_m(o), err);
    if (rc != SL_OK)
        return rc;
    if (o->round != SL_BFP_TRUNCATE && o->round != SL_BFP_NEAREST)
        return sl_err_set(err, SL_E_RANGE,
                          "rounding of weights and activations (truncate or nearest)");
    if (o->round_gradient > SL_BFP_LFSR)
        return sl_err_set(err, SL_E_RANGE,
                          "rounding of gradients (ctr, lfsr, truncate or nearest)");
    if (isnan(o->alpha) || isnan(o->beta))
        return sl_err_set(err, SL_E_RANGE, "alpha %g, beta %g (numbers)", o->alpha,
                          o->beta);
    if (o->refresh == 0)
        return sl_err_set(err, SL_E_RANGE, "refresh 0 steps (at least 1)");
    if (o->rows == 0 || o->cols == 0)
        return sl_err_set(err, SL_E_RANGE,
                          "array of %" PRIu32 " x %" PRIu32 " (at least 1 x 1)", o->rows,
                          o->cols);
    if (!(o->hz > 0.0) || !(o->e_pass >= 0.0) || !(o->e_bit >= 0.0))
        return sl_err_set(err, SL_E_RANGE,
                          "hz %g (above 0), e_pass %g, e_bit %g (0 or more)", o->hz,
                          o->e_pass, o->e_bit);
    return SL_OK;
}

enum sl_code sl_fast_precision_parse(const char *text, struct sl_fast_options *ret,
                                     struct sl_err *err)
{
    static const struct {
        const char *name;
        enum sl_fast_precision precision;
    } names[] = {
        {"adaptive", SL_FAST_ADAPTIVE}, {"low", SL_FAST_LOW}, {"high", SL_FAST_HIGH}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(text, names[i].name) == 0) {
            ret->precision = names[i].precision;
            return SL_OK;
        }
    if (text[0] < '1' || text[0] > '8' || text[1] != '\0')
        return sl_err_set(err, SL_E_RANGE,
                          "precision \"%.32s\" (adaptive, low, high, or 1 to 8 bits)",
                          text);
    ret->precision = SL_FAST_FIXED;
    for (int i = 0; i < SL_FAST_TENSORS; i++)
        ret->m[i] = (uint32_t)(text[0] - '0');
    return SL_OK;
}

/* --- cost model
 * ------------------------------------------------------------------------------ */

static uint64_t ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

uint64_t sl_fast_cycles(const struct sl_fast_options *o, uint64_t m, uint64_t n,
                        uint64_t groups, uint32_t passes)
{
    return ceil_div(groups, o->rows) * ceil_div(n, o->cols) *
           (m * passes + o->rows + o->cols - 1);
}

uint64_t sl_fast_group_bits(const struct sl_fast_options *o, uint32_t m)
{
    return (o->e == 0 ? SL_BFP_E_MAX : o->e) + (uint64_t)o->g * ((m + 1) / 2) * 3;
}

double sl_fast_energy(const struct sl_fast_options *o, const struct sl_unit_ledger *l)
{
    double sum = 0.0;
    for (int p = 0; p < SL_PASSES; p++)
        sum +=
            (double)l->work[p] / SL_BFP_GROUP * o->e_pass + (double)l->bits[p] * o->e_bit;
    return sum;
}

void sl_fast_add_count(const struct sl_fast_call *f, const struct sl_fast_count *c)
{
    struct sl_unit_ledger *l = &f->ctx->ledger;
    uint32_t passes = sl_bfp_passes(c->ma, c->mb);
    l->calls[f->pass]++;
    l->macs[f->pass] += c->m * c->n * c->k;
    l->work[f->pass] += c->m * c->n * c->k * passes;
    l->cycles[f->pass] += sl_fast_cycles(&f->o, c->m, c->n, c->groups, passes);
    l->conversions[f->pass] += c->converted;
    l->bits[f->pass] += c->groups_a * sl_fast_group_bits(&f->o, c->ma) +
                        c->groups_b * sl_fast_group_bits(&f->o, c->mb) +
                        c->m * c->n * 8 * sizeof(float);
}

uint64_t sl_fast_key(const struct sl_rng_id *draw, uint32_t layer, uint32_t tensor,
                     uint32_t use, uint32_t part, uint32_t number)
{
    const uint64_t v[8] = {
        draw->seed, draw->client, (uint64_t)draw->round << 32 | draw->step,
        layer,      tensor,       use,
        part,       number};
    return sl_hash64(v, part == 0 && number == 0 ? 6 : 8);
}

/* --- calls and memory
 * ------------------------------------------------------------------------ */

struct sl_fast_options sl_fast_options_of(const struct sl_unit_options *o)
{
    return o == NULL || o->fast == NULL ? sl_fast_defaults() : *o->fast;
}

bool sl_fast_is_wide(const struct sl_fast_options *o)
{
    return o->g != SL_BFP_GROUP || largest_m(o) > SL_BFP_NARROW_M;
}

struct sl_fast_call sl_fast_call_of(struct sl_unit_ctx *ctx, enum sl_pass pass)
{
    struct sl_fast_options o = sl_fast_options_of(&ctx->options);
    return (struct sl_fast_call){.ctx = ctx,
                                 .o = o,
                                 .ops = &ctx->kernels->bfp,
                                 .pass = pass,
                                 .wide = sl_fast_is_wide(&o)};
}

size_t sl_fast_groups(const struct sl_fast_options *o, size_t k)
{
    return sl_bfp_groups(k, o->g);
}

void *sl_fast_take(struct sl_fast_room *r, size_t bytes)
{
    void *p = r->base == NULL ? NULL : r->base + r->used;
    r->used += sl_arena_cost(bytes);
    return p;
}

struct sl_fast_rows sl_fast_take_rows(struct sl_fast_room *r,
                                      const struct sl_fast_options *o, size_t groups)
{
    size_t each = sl_fast_is_wide(o) ? o->g * sizeof(int16_t) : SL_BFP_GROUP;
    struct sl_fast_rows rows = {.mantissa = sl_fast_take(r, groups * each)};
    rows.scale = sl_fast_take(r, groups * sizeof(float));
    return rows;
}

struct sl_fast_columns sl_fast_take_columns(struct sl_fast_room *r,
                                            const struct sl_fast_options *o, size_t lines,
                                            size_t groups)
{
    struct sl_fast_columns c = {.groups = groups};
    if (sl_fast_is_wide(o)) {
        c.mantissa = sl_fast_take(r, lines * groups * o->g * sizeof(int16_t));
        c.scale = sl_fast_take(r, lines * groups * sizeof(float));
        return c;
    }
    size_t blocks = (lines + SL_BFP_PANEL - 1) / SL_BFP_PANEL * groups;
    c.mantissa = sl_fast_take(r, blocks * SL_BFP_PANEL_BYTES);
    c.scale = sl_fast_take(r, blocks * SL_BFP_PANEL * sizeof(float));
    c.start = sl_fast_take(r, blocks * SL_BFP_PANEL * sizeof(int32_t));
    return c;
}

void sl_fast_clear_rows(const struct sl_fast_call *f, const struct sl_fast_rows *to,
                        size_t first, size_t n)
{
    size_t each = f->wide ? f->o.g * sizeof(int16_t) : SL_BFP_GROUP;
    memset((uint8_t *)to->mantissa + first * each, f->wide ? 0 : 16, n * each);
    memset(to->scale + first, 0, n * sizeof(float));
}

void sl_fast_pack_rows(const struct sl_fast_call *f, const struct sl_bfp_source *s,
                       const struct sl_fast_rows *to, size_t first, size_t step)
{
    if (f->wide)
        f->ops->pack_wide(s, f->o.g,
                          &(struct sl_bfp_wide){(int16_t *)to->mantissa + first * f->o.g,
                                                to->scale + first, step});
    else
        f->ops->pack_rows(
            s, &(struct sl_bfp_rows){(uint8_t *)to->mantissa + first * SL_BFP_GROUP,
                                     to->scale + first, step});
}

void sl_fast_pack_columns(const struct sl_fast_call *f, const struct sl_bfp_source *s,
                          const struct sl_fast_columns *to, size_t first)
{
    if (f->wide)
        f->ops->pack_wide(s, f->o.g,
                          &(struct sl_bfp_wide){(int16_t *)to->mantissa + first * f->o.g,
                                                to->scale + first, to->groups});
    else
        f->ops->pack_columns(s, &(struct sl_bfp_columns){to->mantissa, to->scale,
                                                         to->start, to->groups, first});
}

void sl_fast_multiply(const struct sl_fast_call *f, const struct sl_fast_product *p)
{
    size_t groups = sl_fast_groups(&f->o, p->k);
    if (f->wide) {
        f->ops->product_wide(&(struct sl_bfp_wide_product){
            .m = p->m,
            .n = p->n,
            .tap = p->tap,
            .taps = p->taps,
            .groups = groups,
            .g = f->o.g,
            .row = p->row,
            .row_step = p->row_step,
            .a = {p->a->mantissa, p->a->scale, 0},
            .b = {p->b->mantissa, p->b->scale, p->b->groups},
            .alpha = p->alpha,
            .accumulate = p->accumulate,
            .resume = p->resume,
            .c = p->c,
            .ldc = p->ldc});
        return;
    }
    f->ops->product(&(struct sl_bfp_product){
        .m = p->m,
        .n = p->n,
        .tap = p->tap,
        .taps = p->taps,
        .groups = groups,
        .last_quads = ((p->k - 1) % SL_BFP_GROUP + 4) / 4,
        .row = p->row,
        .row_step = p->row_step,
        .a = {p->a->mantissa, p->a->scale, 0},
        .b = {p->b->mantissa, p->b->scale, p->b->start, p->b->groups, 0},
        .alpha = p->alpha,
        .accumulate = p->accumulate,
        .resume = p->resume,
        .c = p->c,
        .ldc = p->ldc});
}

/* --- tensors
 * --------------------------------------------------------------------------------- */

#define INFINITE_BITS 0x7f800000u

static uint64_t count_infinities(const float *x, size_t n)
{
    uint64_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += isinf(x[i]) != 0;
    return count;
}

bool sl_fast_measure(const struct sl_fast_call *f, const float *x, size_t rows,
                     size_t cols, size_t ld, int32_t *ret_exponent_t)
{
    uint32_t max = 0;
    if (ld == cols) {
        cols *= rows;
        rows = 1;
    }
    for (size_t i = 0; i < rows; i++) {
        uint32_t row = f->ops->largest(x + i * ld, cols);
        max = row > max ? row : max;
    }
    if (max > INFINITE_BITS)
        return false;
    if (max == INFINITE_BITS)
        for (size_t i = 0; i < rows; i++)
            f->ctx->ledger.infinities += count_infinities(x + i * ld, cols);
    int32_t e = (int32_t)(max >> 23) - 127;
    e = e > SL_BFP_EXPONENT_MAX ? SL_BFP_EXPONENT_MAX : e;
    *ret_exponent_t = e < -SL_BFP_EXPONENT_MAX ? -SL_BFP_EXPONENT_MAX : e;
    return true;
}

/* r(X)'s two sums. Up to 15 steps of exponent and 2^27 values they are exact, so the
 * order of the values does not matter; else the definition adds them in theirs. */
static void improvement(const struct sl_fast_call *f, const float *x,
                        const struct sl_bfp_lines *l, int32_t exponent_t, double *ret_num,
                        double *ret_den)
{
    struct sl_bfp_sums sums = {0, 0};
    uint32_t code_max = sl_bfp_code_max(f->o.e);
    if (f->o.g != SL_BFP_GROUP || code_max > 15) {
        *ret_num = *ret_den = 0.0;
        sl_bfp_improvement(f->o.g, f->o.e, l, x, ret_num, ret_den, NULL);
        return;
    }
    for (size_t i = 0; i < l->n0; i++)
        f->ops->pack_rows(&(struct sl_bfp_source){.x = x + i * l->step0,
                                                  .lines = l->n1,
                                                  .k = l->k,
                                                  .line_step = l->step1,
                                                  .k_step = l->step_k,
                                                  .exponent_t = exponent_t,
                                                  .code_max = code_max,
                                                  .m = 4,
                                                  .sums = &sums},
                          &(struct sl_bfp_rows){NULL, NULL, 0});
    int step = exponent_t - (int)code_max - 3;
    *ret_num = ldexp((double)sums.difference, step);
    *ret_den = ldexp((double)sums.coarse, step);
}

static uint32_t pick(const struct sl_fast_call *f, const float *x,
                     const struct sl_bfp_lines *lines, int32_t exponent_t)
{
    const struct sl_unit_place *p = &f->ctx->place;
    double num, den;
    improvement(f, x, lines, exponent_t, &num, &den);
    double eps = sl_bfp_threshold(f->o.alpha, f->o.beta, p->iteration,
                                  p->n_iterations == 0 ? 1 : p->n_iterations, p->layer,
                                  p->n_layers == 0 ? 1 : p->n_layers);
    return sl_bfp_pick(num, den, eps);
}

static uint32_t adaptive_m(const struct sl_fast_call *f, const float *x,
                           const struct sl_bfp_lines *lines, int32_t exponent_t,
                           struct sl_fast_width *known)
{
    const struct sl_unit_ctx *c = f->ctx;
    if (known == NULL || c->place.iteration >= c->place.n_iterations)
        return pick(f, x, lines, exponent_t); /* evaluation leaves no trace */
    bool same =
        known->x == x && known->version == c->version && known->part == c->place.part;
    bool due = c->draw.step % f->o.refresh == 0;
    if (known->m == 0 || (due && !same))
        known->m = pick(f, x, lines, exponent_t);
    known->x = x;
    known->version = c->version;
    known->part = c->place.part;
    return known->m;
}

uint32_t sl_fast_width_of(const struct sl_fast_call *f, int tensor, const float *x,
                          const struct sl_bfp_lines *lines, int32_t exponent_t,
                          struct sl_fast_width *known)
{
    if (f->o.precision != SL_FAST_ADAPTIVE)
        return fixed_m(&f->o, tensor);
    uint32_t m = adaptive_m(f, x, lines, exponent_t, known);
    f->ctx->ledger.widths[tensor]++;
    f->ctx->ledger.wide[tensor] += m > 2;
    return m;
}

size_t sl_fast_noise_bytes(const struct sl_fast_options *o, size_t values)
{
    return o->round_gradient == SL_BFP_LFSR ? values : 0;
}

static void draw_registers(uint64_t start, size_t lines, size_t k, uint8_t *ret)
{
    uint8_t table[SL_BFP_PERIOD][SL_BFP_LANES];
    sl_bfp_lfsr_table(table);
    for (size_t line = 0; line < lines; line++)
        for (size_t j = 0; j < k; j += SL_BFP_LANES, start++)
            for (size_t i = 0; i < SL_BFP_LANES && j + i < k; i++)
                *ret++ = table[start % SL_BFP_PERIOD][i];
}

void sl_fast_noise(const struct sl_fast_call *f, size_t lines, size_t k,
                   uint8_t *registers, struct sl_fast_tensor *t)
{
    struct sl_unit_ctx *c = f->ctx;
    uint32_t use = f->pass == SL_PASS_INPUT_GRADIENT ? 1 : 2;
    t->round = f->o.round_gradient;
    if (t->round == SL_BFP_CTR) {
        t->key = f->o.keys != NULL
                     ? f->o.keys[use]
                     : sl_fast_key(&c->draw, c->place.layer, SL_FAST_TENSOR_GRADIENT, use,
                                   c->place.part, c->place.calls[f->pass]);
    } else if (t->round == SL_BFP_LFSR) {
        draw_registers(c->noise, lines, k, registers);
        c->noise += lines * sl_bfp_groups(k, SL_BFP_LANES);
        t->round = SL_BFP_GIVEN;
        t->noise = registers;
    }
}

struct sl_bfp_source sl_fast_source(const struct sl_fast_call *f,
                                    const struct sl_fast_tensor *t)
{
    return (struct sl_bfp_source){.exponent_t = t->exponent_t,
                                  .code_max = sl_bfp_code_max(f->o.e),
                                  .m = t->m,
                                  .round = t->round,
                                  .key = t->key,
                                  .given = t->noise};
}
