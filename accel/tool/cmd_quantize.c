/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_quantize.c - a tensor in a unit's number format, as an .npz with the fields that
 * tests/golden/accel calls out_*. What a unit makes depends on the input's dtype, too:
 * floats are converted; codes of Term Revealing (integers) get their digits and budget;
 * ternary values (int8) become bit planes. */
#include <math.h>
#include <stdio.h>

#include "accel/kernels/kernels.h"
#include "accel/tool/array.h"
#include "accel/tool/commands.h"
#include "accel/tool/unit_options.h"
#include "accel/units/bfp_packed.h"
#include "accel/units/rtn.h"

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

struct job {
    const struct sl_tool_options *o;
    const char *in;
    struct sl_tool_array x;
    unsigned axis;
    struct sl_kernels kernels;
    struct sl_tool_memory memory;
    struct sl_tool_result result;
};

/* A field of the shape of the input. */
static enum sl_code add_like(struct job *j, const char *name, enum sl_npy_dtype dtype,
                             const void *data, struct sl_err *err)
{
    return sl_tool_result_add(&j->result, name, dtype, j->x.a.n_dims, j->x.a.dim, data,
                              err);
}

static enum sl_code add_scalar(struct job *j, const char *name, enum sl_npy_dtype dtype,
                               const void *data, struct sl_err *err)
{
    return sl_tool_result_add(&j->result, name, dtype, 0, NULL, data, err);
}

static enum sl_code write_result(struct job *j, enum sl_code rc, struct sl_err *err)
{
    return rc == SL_OK ? sl_tool_result_write(&j->result, j->o->value[SL_OPT_OUT], err)
                       : rc;
}

/* --axis of an array; negative counts from the last. */
static enum sl_code read_axis(struct job *j, struct sl_err *err)
{
    int64_t n = j->x.a.n_dims, axis = 0;
    if (n == 0)
        return sl_err_set(err, SL_E_INPUT, "%s: a single value (an array wanted)", j->in);
    enum sl_code rc = sl_tool_int(j->o, SL_OPT_AXIS, -n, n - 1, -1, &axis, err);
    j->axis = (unsigned)(axis < 0 ? axis + n : axis);
    return rc;
}

/* --- FAST ----------------------------------------------------------------------------
 */

static enum sl_code given_noise(struct job *j, struct sl_bfp_options *b,
                                struct sl_tool_array *noise, struct sl_err *err)
{
    const char *path = j->o->value[SL_OPT_NOISE];
    if (b->round != SL_BFP_GIVEN)
        return path == NULL
                   ? SL_OK
                   : sl_err_set(err, SL_E_USAGE, "--noise without --round given");
    if (path == NULL)
        return sl_err_set(err, SL_E_USAGE, "--round given wants --noise FILE");
    enum sl_code rc = sl_tool_array_load(path, noise, err);
    if (rc == SL_OK)
        rc = sl_tool_array_demand(path, noise, SL_NPY_U1, err);
    if (rc == SL_OK && noise->a.n != j->x.a.n)
        rc = sl_err_set(err, SL_E_INPUT, "%s: %zu values, %s has %zu", path, noise->a.n,
                        j->in, j->x.a.n);
    b->given = noise->a.data;
    return rc;
}

/* What the kernels packed, in the places of the tensor. */
static void spread(const struct sl_bfp_packed *p, const float *x, struct sl_bfp_out *out)
{
    uint32_t code_max = sl_bfp_code_max(p->o.e);
    out->exponent_t = p->exponent_t;
    for (size_t i = 0; i < p->lines * p->groups; i++) {
        int exponent = p->exponent_t - (int)code_max; /* of a group of zeros */
        if (p->wide.scale[i] != 0.0f)
            exponent = ilogbf(p->wide.scale[i]) + (int)p->o.m - 1;
        out->exponent[i] = (int16_t)exponent;
        out->code[i] = (uint8_t)(p->exponent_t - exponent);
    }
    for (size_t i = 0; i < p->lines * p->l.k; i++) {
        size_t line = i / p->l.k, k = i % p->l.k, at = sl_bfp_place(&p->l, line, k);
        size_t group = line * p->groups + k / p->o.g;
        out->mantissa[at] = p->wide.mantissa[group * p->o.g + k % p->o.g];
        out->value[at] = (float)out->mantissa[at] * p->wide.scale[group];
        out->n_inf += isinf(x[at]) != 0;
    }
}

static enum sl_code convert_fast(struct job *j, const struct sl_bfp_options *b,
                                 const struct sl_bfp_lines *l, struct sl_bfp_out *out,
                                 struct sl_err *err)
{
    const float *x = (const float *)(const void *)j->x.a.data;
    uint8_t *numbered = sl_tool_room(&j->memory, j->x.a.n, 1);
    struct sl_bfp_packed p;
    enum sl_code rc = sl_tool_memory_ok(&j->memory, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_bfp_pack(&j->kernels.bfp, b, l, x, &p, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "%s", j->in);
    spread(&p, x, out);
    sl_bfp_packed_deinit(&p);
    sl_bfp_numbered_noise(b, l, numbered);
    for (size_t i = 0; i < j->x.a.n; i++)
        out->noise[sl_bfp_place(l, i / l->k, i % l->k)] = numbered[i];
    return SL_OK;
}

static enum sl_code make_fast(struct job *j, const struct sl_bfp_options *b,
                              struct sl_err *err)
{
    struct sl_bfp_lines l = sl_bfp_lines_axis(j->x.a.dim, j->x.a.n_dims, j->axis);
    size_t n = j->x.a.n, dim[2] = {sl_bfp_line_count(&l), sl_bfp_groups(l.k, b->g)};
    size_t groups = dim[0] * dim[1];
    struct sl_bfp_out out = {
        .mantissa = sl_tool_room(&j->memory, n, sizeof(*out.mantissa)),
        .code = sl_tool_room(&j->memory, groups, sizeof(*out.code)),
        .exponent = sl_tool_room(&j->memory, groups, sizeof(*out.exponent)),
        .value = sl_tool_room(&j->memory, n, sizeof(*out.value)),
        .noise = sl_tool_room(&j->memory, n, sizeof(*out.noise))};
    enum sl_code rc = sl_tool_memory_ok(&j->memory, err);
    if (rc == SL_OK)
        rc = convert_fast(j, b, &l, &out, err);
    if (rc != SL_OK)
        return rc;
    int64_t n_inf = (int64_t)out.n_inf;
    rc = add_like(j, "mantissa", SL_NPY_I2, out.mantissa, err);
    if (rc == SL_OK)
        rc = add_like(j, "value", SL_NPY_F4, out.value, err);
    if (rc == SL_OK)
        rc = add_like(j, "noise", SL_NPY_U1, out.noise, err);
    if (rc == SL_OK)
        rc = sl_tool_result_add(&j->result, "exponent", SL_NPY_I2, 2, dim, out.exponent,
                                err);
    if (rc == SL_OK)
        rc = sl_tool_result_add(&j->result, "code", SL_NPY_U1, 2, dim, out.code, err);
    if (rc == SL_OK)
        rc = add_scalar(j, "exponent_t", SL_NPY_I4, &out.exponent_t, err);
    if (rc == SL_OK)
        rc = add_scalar(j, "n_inf", SL_NPY_I8, &n_inf, err);
    rc = write_result(j, rc, err);
    if (rc == SL_OK && j->o->value[SL_OPT_COST] != NULL)
        printf(
            "{\"unit\":\"fast\",\"conversions\":%zu,\"groups\":%zu,\"infinities\":%lld}"
            "\n",
            n, groups, (long long)n_inf);
    return rc;
}

static enum sl_code quantize_fast(struct job *j, struct sl_err *err)
{
    static const enum sl_tool_option allowed[] = {
        SL_OPT_UNIT, SL_OPT_OUT,   SL_OPT_COST, SL_OPT_AXIS,       SL_OPT_M,    SL_OPT_E,
        SL_OPT_G,    SL_OPT_ROUND, SL_OPT_KEY,  SL_OPT_LFSR_START, SL_OPT_NOISE};
    struct sl_bfp_options b;
    struct sl_tool_array noise = {0};
    enum sl_code rc = sl_tool_allow(j->o, "fast", allowed, COUNT(allowed), err);
    if (rc == SL_OK)
        rc = sl_tool_bfp_options(j->o, SL_OPT_M, SL_OPT_ROUND, SL_OPT_KEY, &b, err);
    if (rc == SL_OK)
        rc = sl_tool_array_demand(j->in, &j->x, SL_NPY_F4, err);
    if (rc == SL_OK)
        rc = given_noise(j, &b, &noise, err);
    if (rc == SL_OK)
        rc = make_fast(j, &b, err);
    sl_tool_array_deinit(&noise);
    return rc;
}

/* --- Term Revealing ------------------------------------------------------------------
 */

/* Codes as int16 from integers of any type. */
static enum sl_code read_codes(struct job *j, int16_t *q, struct sl_err *err)
{
    int64_t *wide = sl_tool_room(&j->memory, j->x.a.n, sizeof(*wide));
    enum sl_code rc = sl_tool_memory_ok(&j->memory, err);
    if (rc == SL_OK)
        rc = sl_npy_integers(j->in, &j->x.a, wide, err);
    for (size_t i = 0; i < j->x.a.n && rc == SL_OK; i++) {
        if (wide[i] < -(1 << (SL_TR_BITS_MAX - 1)) || wide[i] > 1 << (SL_TR_BITS_MAX - 1))
            return sl_err_set(err, SL_E_INPUT, "%s: code %lld at %zu (-2^14 to 2^14)",
                              j->in, (long long)wide[i], i);
        q[i] = (int16_t)wide[i];
    }
    return rc;
}

/* q and sf of floats. */
static enum sl_code make_codes(struct job *j, unsigned bits, int16_t *q, float *ret_sf,
                               struct sl_err *err)
{
    float given = 0.0f;
    enum sl_code rc = sl_tool_float(j->o, SL_OPT_SF, 1.0f, &given, err);
    if (rc == SL_OK && sl_tr_check_scale(given, err) != SL_OK)
        return sl_err_wrap(err, SL_E_RANGE, "--sf");
    if (rc == SL_OK)
        rc = sl_tr_quantise(
            &j->kernels.tr, (const float *)(const void *)j->x.a.data, j->x.a.n, bits,
            j->o->value[SL_OPT_SF] == NULL ? NULL : &given, q, ret_sf, err);
    return rc == SL_OK ? rc : sl_err_wrap(err, rc, "%s", j->in);
}

/* Digits that stay: k in groups of g, s a value, or all. */
static enum sl_code add_digits(struct job *j, const struct sl_tr_options *t,
                               const int16_t *q, struct sl_err *err)
{
    size_t n = j->x.a.n;
    bool cap = j->o->value[SL_OPT_S] != NULL, budget = j->o->value[SL_OPT_K] != NULL;
    struct sl_tr_lines lines = sl_tr_lines_axis(j->x.a.dim, j->x.a.n_dims, j->axis);
    struct sl_tr_out out = {.plus = sl_tool_room(&j->memory, n, sizeof(uint16_t)),
                            .minus = sl_tool_room(&j->memory, n, sizeof(uint16_t)),
                            .value = sl_tool_room(&j->memory, n, sizeof(int16_t))};
    int32_t *plus = sl_tool_room(&j->memory, n, sizeof(*plus));
    int32_t *minus = sl_tool_room(&j->memory, n, sizeof(*minus));
    int32_t *value = sl_tool_room(&j->memory, n, sizeof(*value));
    enum sl_code rc = sl_tool_memory_ok(&j->memory, err);
    if (rc != SL_OK)
        return rc;
    sl_tr_reveal(&j->kernels.tr, t->enc, budget ? t->g : 1,
                 budget ? t->k
                 : cap  ? t->s
                        : SL_TR_BUDGET_MAX,
                 &lines, q, &out);
    for (size_t i = 0; i < n; i++) {
        plus[i] = out.plus[i];
        minus[i] = out.minus[i];
        value[i] = out.value[i];
    }
    int64_t terms = (int64_t)out.terms;
    rc = add_like(j, "plus", SL_NPY_I4, plus, err);
    if (rc == SL_OK)
        rc = add_like(j, "minus", SL_NPY_I4, minus, err);
    if (rc == SL_OK)
        rc = add_like(j, "value", SL_NPY_I4, value, err);
    if (rc == SL_OK)
        rc = add_scalar(j, "terms", SL_NPY_I8, &terms, err);
    rc = write_result(j, rc, err);
    if (rc == SL_OK && j->o->value[SL_OPT_COST] != NULL)
        printf("{\"unit\":\"tr\",\"conversions\":%zu,\"terms\":%lld}\n", n,
               (long long)terms);
    return rc;
}

static enum sl_code quantize_tr(struct job *j, struct sl_err *err)
{
    static const enum sl_tool_option allowed[] = {
        SL_OPT_UNIT, SL_OPT_OUT, SL_OPT_COST, SL_OPT_AXIS, SL_OPT_BITS,
        SL_OPT_G,    SL_OPT_K,   SL_OPT_S,    SL_OPT_ENC,  SL_OPT_SF};
    struct sl_tr_options t;
    int64_t bits = 8;
    float sf = 1.0f;
    bool floats = j->x.a.dtype == SL_NPY_F4;
    int16_t *q = sl_tool_room(&j->memory, j->x.a.n, sizeof(*q));
    enum sl_code rc = sl_tool_allow(j->o, "tr", allowed, COUNT(allowed), err);
    if (rc == SL_OK)
        rc = sl_tool_tr_options(j->o, &t, err);
    if (rc == SL_OK)
        rc =
            sl_tool_int(j->o, SL_OPT_BITS, SL_TR_BITS_MIN, SL_TR_BITS_MAX, 8, &bits, err);
    if (rc == SL_OK && j->o->value[SL_OPT_K] != NULL && j->o->value[SL_OPT_S] != NULL)
        rc =
            sl_err_set(err, SL_E_USAGE, "--k (of a group) or --s (of a value), not both");
    if (rc == SL_OK && !floats &&
        (j->o->value[SL_OPT_BITS] != NULL || j->o->value[SL_OPT_SF] != NULL))
        rc = sl_err_set(err, SL_E_USAGE, "--bits and --sf are for floats, %s has %s",
                        j->in, sl_npy_descr(j->x.a.dtype));
    if (rc == SL_OK)
        rc = sl_tool_memory_ok(&j->memory, err);
    if (rc == SL_OK)
        rc = floats ? make_codes(j, (unsigned)bits, q, &sf, err) : read_codes(j, q, err);
    if (rc == SL_OK && floats) {
        rc = add_like(j, "q", SL_NPY_I2, q, err);
        if (rc == SL_OK)
            rc = add_scalar(j, "sf", SL_NPY_F4, &sf, err);
    }
    return rc == SL_OK ? add_digits(j, &t, q, err) : rc;
}

/* --- RTN -----------------------------------------------------------------------------
 */

static enum sl_code rtn_activation(struct job *j, struct sl_err *err)
{
    size_t n = j->x.a.n, words = SL_RTN_WORDS(n);
    const float *x = (const float *)(const void *)j->x.a.data;
    const struct sl_rtn_ops *ops = &j->kernels.rtn;
    float gamma, beta, level[3];
    uint64_t *flag = sl_tool_room(&j->memory, words, sizeof(*flag));
    uint64_t *sign = sl_tool_room(&j->memory, words, sizeof(*sign));
    int8_t *t = sl_tool_room(&j->memory, n, 1), *before = sl_tool_room(&j->memory, n, 1);
    float *value = sl_tool_room(&j->memory, n, sizeof(*value));
    enum sl_code rc = sl_tool_memory_ok(&j->memory, err);
    if (rc == SL_OK)
        rc = sl_tool_float(j->o, SL_OPT_GAMMA, 1.0f, &gamma, err);
    if (rc == SL_OK)
        rc = sl_tool_float(j->o, SL_OPT_BETA, 0.0f, &beta, err);
    if (rc == SL_OK)
        rc = sl_rtn_ternarise(ops, x, n, SL_RTN_ACTIVATION_D, flag, sign, NULL, err);
    if (rc == SL_OK)
        rc = sl_rtn_ternarise_before(x, n, gamma, beta, before, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "%s", j->in);
    sl_rtn_unpack(flag, sign, n, t);
    sl_rtn_levels(gamma, beta, level);
    ops->decode(flag, sign, n, level, value);
    rc = add_like(j, "t", SL_NPY_I1, t, err);
    if (rc == SL_OK)
        rc = add_like(j, "t_before", SL_NPY_I1, before, err);
    if (rc == SL_OK)
        rc = add_like(j, "value", SL_NPY_F4, value, err);
    return write_result(j, rc, err);
}

/* One threshold, or one a column, of a matrix. */
static enum sl_code rtn_weight(struct job *j, bool by_channel, struct sl_err *err)
{
    const float *w = (const float *)(const void *)j->x.a.data;
    if (j->x.a.n_dims != 2)
        return sl_err_set(err, SL_E_INPUT, "%s: %u dimensions (a matrix [K, N] wanted)",
                          j->in, j->x.a.n_dims);
    size_t k = j->x.a.dim[0], n = j->x.a.dim[1], parts = by_channel ? n : 1;
    int8_t *t = sl_tool_room(&j->memory, k * n, 1);
    float *d = sl_tool_room(&j->memory, parts, sizeof(*d));
    float *gamma = sl_tool_room(&j->memory, parts, sizeof(*gamma));
    enum sl_code rc = sl_tool_memory_ok(&j->memory, err);
    for (size_t p = 0; p < parts && rc == SL_OK; p++) {
        size_t width = by_channel ? 1 : n;
        struct sl_rtn_weights part = {w + p, k, width, n, 1};
        rc = sl_rtn_threshold(&part, &d[p], &gamma[p], err);
        for (size_t i = 0; i < k && rc == SL_OK; i++)
            for (size_t c = p; c < p + width; c++)
                t[i * n + c] = (int8_t)((w[i * n + c] > d[p]) - (w[i * n + c] < -d[p]));
    }
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "%s", j->in);
    rc = add_like(j, "t", SL_NPY_I1, t, err);
    if (rc == SL_OK)
        rc = sl_tool_result_add(&j->result, "d", SL_NPY_F4, by_channel, &parts, d, err);
    if (rc == SL_OK)
        rc = sl_tool_result_add(&j->result, "gamma", SL_NPY_F4, by_channel, &parts, gamma,
                                err);
    return write_result(j, rc, err);
}

/* Planes of the lines along the axis. */
static enum sl_code rtn_planes(struct job *j, struct sl_err *err)
{
    struct sl_tr_lines l = sl_tr_lines_axis(j->x.a.dim, j->x.a.n_dims, j->axis);
    size_t n = l.n0 * l.n1, dim[2] = {n, SL_RTN_WORDS(l.len)}, words = dim[1];
    const int8_t *t = (const int8_t *)j->x.a.data;
    uint64_t *flag = sl_tool_room(&j->memory, n * words, sizeof(*flag));
    uint64_t *sign = sl_tool_room(&j->memory, n * words, sizeof(*sign));
    int32_t *sum = sl_tool_room(&j->memory, n, sizeof(*sum));
    int8_t *line = sl_tool_room(&j->memory, l.len, 1);
    enum sl_code rc = sl_tool_memory_ok(&j->memory, err);
    for (size_t i = 0; i < j->x.a.n && rc == SL_OK; i++)
        if (t[i] < -1 || t[i] > 1)
            rc = sl_err_set(err, SL_E_INPUT, "%s: value %d at %zu (-1, 0 or 1)", j->in,
                            t[i], i);
    if (rc != SL_OK)
        return rc;
    for (size_t i = 0; i < n; i++) {
        const int8_t *from = t + i / l.n1 * l.len * l.n1 + i % l.n1;
        for (size_t k = 0; k < l.len; k++)
            line[k] = from[k * l.n1];
        j->kernels.rtn.pack_bytes(line, l.len, flag + i * words, sign + i * words);
        sum[i] = j->kernels.rtn.sum(flag + i * words, sign + i * words, words);
    }
    rc = sl_tool_result_add(&j->result, "flag", SL_NPY_U8, 2, dim, flag, err);
    if (rc == SL_OK)
        rc = sl_tool_result_add(&j->result, "sign", SL_NPY_U8, 2, dim, sign, err);
    if (rc == SL_OK)
        rc = sl_tool_result_add(&j->result, "sum", SL_NPY_I4, 1, dim, sum, err);
    return write_result(j, rc, err);
}

static enum sl_code quantize_rtn(struct job *j, struct sl_err *err)
{
    static const enum sl_tool_option allowed[] = {SL_OPT_UNIT,  SL_OPT_OUT,  SL_OPT_COST,
                                                  SL_OPT_AXIS,  SL_OPT_ROLE, SL_OPT_SCOPE,
                                                  SL_OPT_GAMMA, SL_OPT_BETA};
    static const char *const roles[] = {"activation", "weight"};
    static const char *const scopes[] = {"layer", "channel"};
    size_t role = 0, scope = 0;
    enum sl_code rc = sl_tool_allow(j->o, "rtn", allowed, COUNT(allowed), err);
    if (rc == SL_OK)
        rc = sl_tool_choice(j->o, SL_OPT_ROLE, roles, 2, 0, &role, err);
    if (rc == SL_OK)
        rc = sl_tool_choice(j->o, SL_OPT_SCOPE, scopes, 2, 0, &scope, err);
    if (rc == SL_OK && j->x.a.dtype == SL_NPY_I1) {
        rc = rtn_planes(j, err);
    } else if (rc == SL_OK) {
        rc = sl_tool_array_demand(j->in, &j->x, SL_NPY_F4, err);
        if (rc == SL_OK)
            rc = role == 0 ? rtn_activation(j, err) : rtn_weight(j, scope == 1, err);
    }
    if (rc == SL_OK && j->o->value[SL_OPT_COST] != NULL)
        printf("{\"unit\":\"rtn\",\"conversions\":%zu,\"bits\":%zu}\n", j->x.a.n,
               2 * j->x.a.n);
    return rc;
}

/* --- command -------------------------------------------------------------------------
 */

static enum sl_code run(struct job *j, enum sl_tool_unit unit, struct sl_err *err)
{
    switch (unit) {
    case SL_TOOL_FAST:
        return quantize_fast(j, err);
    case SL_TOOL_TR:
        return quantize_tr(j, err);
    case SL_TOOL_RTN:
        return quantize_rtn(j, err);
    case SL_TOOL_FP32:
        break;
    }
    return sl_err_set(err, SL_E_USAGE,
                      "quantize: --unit fp32 changes nothing (fast, tr "
                      "or rtn)");
}

enum sl_code sl_tool_quantize(const struct sl_tool_options *o, uint32_t cpu,
                              struct sl_err *err)
{
    struct job j = {.o = o, .in = o->path[0]};
    enum sl_tool_unit unit;
    enum sl_code rc = sl_tool_unit(o, &unit, err);
    if (rc == SL_OK && o->n_paths != 1)
        rc = sl_err_set(err, SL_E_USAGE, "quantize wants one IN.npy");
    if (rc == SL_OK && o->value[SL_OPT_OUT] == NULL)
        rc = sl_err_set(err, SL_E_USAGE, "quantize: --out FILE.npz is missing");
    if (rc != SL_OK)
        return rc;
    sl_kernels_init(&j.kernels, cpu);
    rc = sl_tool_array_load(j.in, &j.x, err);
    if (rc == SL_OK)
        rc = read_axis(&j, err);
    if (rc == SL_OK)
        rc = run(&j, unit, err);
    sl_tool_array_deinit(&j.x);
    sl_tool_memory_deinit(&j.memory);
    return rc;
}
