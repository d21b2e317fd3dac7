/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_matmul.c - C = A W (+ bias) as a unit computes it; A [M, K], W [K, N], .npy of
 * float32. */
#include <stdio.h>
#include <string.h>

#include "accel/kernels/kernels.h"
#include "accel/tool/array.h"
#include "accel/tool/commands.h"
#include "accel/tool/unit_options.h"
#include "accel/units/bfp_packed.h"
#include "accel/units/matmul.h"
#include "accel/units/rtn.h"
#include "common/mem.h"

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

struct job {
    const struct sl_tool_options *o;
    struct sl_tool_array a, w, bias;
    size_t m, k, n;
    float *c; /* [m, n] */
    struct sl_kernels kernels;
    struct sl_tool_memory memory;
};

static const float *floats(const struct sl_tool_array *x)
{
    return (const float *)(const void *)x->a.data;
}

static const float *bias_of(const struct job *j)
{
    return j->bias.a.data == NULL ? NULL : floats(&j->bias);
}

static bool wants_cost(const struct job *j)
{
    return j->o->value[SL_OPT_COST] != NULL;
}

/* --- fp32 ----------------------------------------------------------------------------
 */

static enum sl_code multiply_fp32(struct job *j, struct sl_err *err)
{
    static const enum sl_tool_option allowed[] = {SL_OPT_UNIT, SL_OPT_OUT, SL_OPT_COST,
                                                  SL_OPT_BIAS};
    struct sl_unit_ctx ctx = {.unit = &sl_matmul_fp32, .kernels = &j->kernels};
    enum sl_code rc = sl_tool_allow(j->o, "fp32", allowed, COUNT(allowed), err);
    if (rc != SL_OK)
        return rc;
    if (j->m > 0 && j->n > 0 && j->k > 0)
        sl_matmul(&ctx, &(struct sl_matmul){
                            .pass = SL_PASS_FORWARD,
                            .m = j->m,
                            .n = j->n,
                            .k = j->k,
                            .a = {floats(&j->a), j->k, false, SL_ROLE_ACTIVATION},
                            .b = {floats(&j->w), j->n, false, SL_ROLE_WEIGHT},
                            .alpha = 1.0f,
                            .c = j->c,
                            .ldc = j->n});
    if (bias_of(j) != NULL)
        j->kernels.elem.bias_rows(bias_of(j), j->c, j->m, j->n);
    if (wants_cost(j))
        printf("{\"unit\":\"fp32\",\"macs\":%zu}\n", j->m * j->n * j->k);
    return SL_OK;
}

/* --- FAST ----------------------------------------------------------------------------
 */

struct fast_side {
    const char *name;
    const float *x;
    struct sl_bfp_options o;
    struct sl_bfp_lines l; /* rows of A, columns of W */
};

/* One operand by the definition. */
static enum sl_code convert(struct job *j, const struct fast_side *s,
                            struct sl_bfp_operand *ret, struct sl_err *err)
{
    const struct sl_bfp_lines *l = &s->l;
    size_t n = sl_bfp_line_count(l) * l->k;
    size_t groups = sl_bfp_line_count(l) * sl_bfp_groups(l->k, s->o.g);
    struct sl_bfp_out out = {
        .mantissa = sl_tool_room(&j->memory, n, sizeof(*out.mantissa)),
        .exponent = sl_tool_room(&j->memory, groups, sizeof(*out.exponent))};
    enum sl_code rc = sl_tool_memory_ok(&j->memory, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_bfp_convert(&s->o, l, s->x, &out, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "%s", s->name);
    *ret =
        (struct sl_bfp_operand){.mantissa = out.mantissa,
                                .step_line = l->step0 + l->step1, /* one of them is 0 */
                                .step_k = l->step_k,
                                .exponent = out.exponent,
                                .exponent_t = out.exponent_t,
                                .m = s->o.m,
                                .e = s->o.e};
    return SL_OK;
}

/* One rounding for the whole sum: what no kernel does. */
static enum sl_code multiply_exact(struct job *j, const struct fast_side *a,
                                   const struct fast_side *w, struct sl_err *err)
{
    struct sl_bfp_gemm p = {.rows = j->m,
                            .cols = j->n,
                            .k = j->k,
                            .g = a->o.g,
                            .bias = bias_of(j),
                            .exact = true};
    enum sl_code rc = convert(j, a, &p.a, err);
    if (rc == SL_OK)
        rc = convert(j, w, &p.b, err);
    return rc == SL_OK ? sl_bfp_gemm(&p, j->c, err) : rc;
}

static enum sl_code multiply_packed(struct job *j, const struct fast_side *a,
                                    const struct fast_side *w, struct sl_err *err)
{
    const struct sl_bfp_ops *ops = &j->kernels.bfp;
    struct sl_bfp_packed pa = {0}, pw = {0};
    const struct fast_side *at = a;
    enum sl_code rc = sl_bfp_pack(ops, &a->o, &a->l, a->x, &pa, err);
    if (rc == SL_OK) {
        at = w;
        rc = sl_bfp_pack(ops, &w->o, &w->l, w->x, &pw, err);
    }
    if (rc != SL_OK)
        rc = sl_err_wrap(err, rc, "%s", at->name);
    else
        rc = sl_bfp_packed_product(ops, &pa, &pw, false, j->c, err);
    if (rc == SL_OK && bias_of(j) != NULL)
        j->kernels.elem.bias_rows(bias_of(j), j->c, j->m, j->n);
    sl_bfp_packed_deinit(&pa);
    sl_bfp_packed_deinit(&pw);
    return rc;
}

static enum sl_code multiply_fast(struct job *j, struct sl_err *err)
{
    static const enum sl_tool_option allowed[] = {
        SL_OPT_UNIT,  SL_OPT_OUT,     SL_OPT_COST,  SL_OPT_BIAS,  SL_OPT_M,
        SL_OPT_E,     SL_OPT_G,       SL_OPT_MA,    SL_OPT_MW,    SL_OPT_ROUND_A,
        SL_OPT_KEY_A, SL_OPT_ROUND_W, SL_OPT_KEY_W, SL_OPT_EXACT, SL_OPT_LFSR_START};
    struct fast_side a = {
        .name = j->o->path[0],
        .x = floats(&j->a),
        .l = {.n0 = 1, .n1 = j->m, .k = j->k, .step1 = j->k, .step_k = 1}};
    struct fast_side w = {
        .name = j->o->path[1],
        .x = floats(&j->w),
        .l = {.n0 = 1, .n1 = j->n, .k = j->k, .step1 = 1, .step_k = j->n}};
    bool exact = j->o->value[SL_OPT_EXACT] != NULL;
    enum sl_code rc = sl_tool_allow(j->o, "fast", allowed, COUNT(allowed), err);
    if (rc == SL_OK)
        rc = sl_tool_bfp_options(j->o, SL_OPT_MA, SL_OPT_ROUND_A, SL_OPT_KEY_A, &a.o, err);
    if (rc == SL_OK)
        rc = sl_tool_bfp_options(j->o, SL_OPT_MW, SL_OPT_ROUND_W, SL_OPT_KEY_W, &w.o, err);
    if (rc == SL_OK && (a.o.round == SL_BFP_GIVEN || w.o.round == SL_BFP_GIVEN))
        rc = sl_err_set(err, SL_E_USAGE, "matmul: given noise is for quantize");
    if (rc == SL_OK)
        rc = exact ? multiply_exact(j, &a, &w, err) : multiply_packed(j, &a, &w, err);
    if (rc == SL_OK && wants_cost(j))
        printf("{\"unit\":\"fast\",\"macs\":%zu,\"passes\":%zu,\"conversions\":%zu}\n",
               j->m * j->n * j->k, j->m * j->n * j->k * sl_bfp_passes(a.o.m, w.o.m),
               j->m * j->k + j->k * j->n);
    return rc;
}

/* --- Term Revealing ------------------------------------------------------------------
 */

/* "max": the tensor's own scale; *ret NULL then. */
static enum sl_code data_scale(const struct job *j, float *given, const float **ret,
                               struct sl_err *err)
{
    const char *text = j->o->value[SL_OPT_SF_X];
    if (text == NULL)
        return sl_err_set(err, SL_E_USAGE,
                          "matmul --unit tr: --sf-x is missing (the "
                          "scale of A, or max for its own)");
    *ret = given;
    if (strcmp(text, "max") == 0) {
        *ret = NULL;
        return SL_OK;
    }
    return sl_tool_float(j->o, SL_OPT_SF_X, 0.0f, given, err);
}

static void print_tr_cost(struct job *j, const struct sl_tr_options *t, const int16_t *qx,
                          const int16_t *qw)
{
    struct sl_tr_out x = {.plus = sl_tool_room(&j->memory, j->m * j->k, 2),
                          .minus = sl_tool_room(&j->memory, j->m * j->k, 2)};
    struct sl_tr_out w = {.plus = sl_tool_room(&j->memory, j->k * j->n, 2),
                          .minus = sl_tool_room(&j->memory, j->k * j->n, 2)};
    struct sl_err ignored;
    if (sl_tool_memory_ok(&j->memory, &ignored) != SL_OK)
        return;
    sl_tr_reveal(&j->kernels.tr, t->enc, 1, t->s,
                 &(struct sl_tr_lines){1, j->m * j->k, 1}, qx, &x);
    sl_tr_reveal(&j->kernels.tr, t->enc, t->g, t->k, &(struct sl_tr_lines){1, j->k, j->n},
                 qw, &w);
    printf("{\"unit\":\"tr\",\"macs\":%zu,\"pairs\":%llu,\"bound\":%llu,"
           "\"terms_x\":%llu,\"terms_w\":%llu,\"conversions\":%zu}\n",
           j->m * j->n * j->k,
           (unsigned long long)sl_tr_pairs(j->m, j->k, j->n, x.plus, x.minus, w.plus,
                                           w.minus),
           (unsigned long long)sl_tr_bound(t, j->m, j->n, j->k),
           (unsigned long long)x.terms, (unsigned long long)w.terms,
           j->m * j->k + j->k * j->n);
}

static enum sl_code multiply_tr(struct job *j, struct sl_err *err)
{
    static const enum sl_tool_option allowed[] = {
        SL_OPT_UNIT, SL_OPT_OUT, SL_OPT_COST, SL_OPT_BIAS, SL_OPT_BITS_X, SL_OPT_BITS_W,
        SL_OPT_G,    SL_OPT_K,   SL_OPT_S,    SL_OPT_ENC,  SL_OPT_SF_X};
    const struct sl_tr_ops *ops = &j->kernels.tr;
    struct sl_tr_options t;
    const float *sf_x = NULL;
    float given = 0.0f, used_x, used_w;
    size_t lda = 2 * SL_TR_PAIRS(j->k);
    enum sl_code rc = sl_tool_allow(j->o, "tr", allowed, COUNT(allowed), err);
    if (rc == SL_OK)
        rc = sl_tool_tr_options(j->o, &t, err);
    if (rc == SL_OK)
        rc = data_scale(j, &given, &sf_x, err);
    if (rc != SL_OK)
        return rc;
    int16_t *qx = sl_tool_room(&j->memory, j->m * j->k, sizeof(*qx));
    int16_t *qw = sl_tool_room(&j->memory, j->k * j->n, sizeof(*qw));
    int16_t *vw = sl_tool_room(&j->memory, j->k * j->n, sizeof(*vw));
    int16_t *a = sl_tool_room(&j->memory, j->m * lda, sizeof(*a));
    int16_t *packed =
        sl_tool_room(&j->memory, sl_tr_packed_values(j->k, j->n), sizeof(*packed));
    rc = sl_tool_memory_ok(&j->memory, err);
    if (rc != SL_OK)
        return rc;
    rc =
        sl_tr_quantise(ops, floats(&j->a), j->m * j->k, t.bits_x, sf_x, qx, &used_x, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "%s", j->o->path[0]);
    rc =
        sl_tr_quantise(ops, floats(&j->w), j->k * j->n, t.bits_w, NULL, qw, &used_w, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "%s", j->o->path[1]);
    for (size_t i = 0; i < j->m; i++)
        ops->cap(t.enc, t.bits_x, qx + i * j->k, j->k, t.s, a + i * lda);
    sl_tr_reveal(ops, t.enc, t.g, t.k, &(struct sl_tr_lines){1, j->k, j->n}, qw,
                 &(struct sl_tr_out){.value = vw});
    sl_tr_pack(vw, j->n, false, j->k, j->n, packed);
    struct sl_tr_finish f = {.scale = used_w * used_x,
                             .alpha = 1.0f,
                             .bias = bias_of(j),
                             .c = j->c,
                             .ldc = j->n};
    sl_tr_product(ops, sl_tr_is_wide(&t, j->k), j->m, j->n, j->k, a, lda, packed, &f);
    if (wants_cost(j))
        print_tr_cost(j, &t, qx, qw);
    return SL_OK;
}

/* --- RTN -----------------------------------------------------------------------------
 */

/* A number, or a .npy with one a column. */
static enum sl_code scales(struct job *j, enum sl_tool_option which,
                           struct sl_tool_array *file, float *one, const float **ret,
                           size_t *ret_n, struct sl_err *err)
{
    const char *text = j->o->value[which];
    size_t len = text == NULL ? 0 : strlen(text);
    *ret = one;
    *ret_n = 1;
    if (len < 4 || strcmp(text + len - 4, ".npy") != 0)
        return sl_tool_float(j->o, which, *one, one, err);
    enum sl_code rc = sl_tool_array_load(text, file, err);
    if (rc == SL_OK)
        rc = sl_tool_array_demand(text, file, SL_NPY_F4, err);
    if (rc == SL_OK && file->a.n != 1 && file->a.n != j->n)
        rc = sl_err_set(err, SL_E_INPUT, "%s: %zu values (1 or %zu, one a column)", text,
                        file->a.n, j->n);
    if (rc == SL_OK) {
        *ret = floats(file);
        *ret_n = file->a.n;
    }
    return rc;
}

struct rtn_scales {
    float ga, ba, one_gw, one_bw;
    const float *gw, *bw;
    size_t n_gw, n_bw;
    struct sl_tool_array gw_file, bw_file;
};

static enum sl_code read_scales(struct job *j, struct rtn_scales *s, struct sl_err *err)
{
    if (j->o->value[SL_OPT_GA] == NULL || j->o->value[SL_OPT_GW] == NULL)
        return sl_err_set(err, SL_E_USAGE, "matmul --unit rtn: --%s is missing (a scale)",
                          j->o->value[SL_OPT_GA] == NULL ? "ga" : "gw");
    enum sl_code rc = sl_tool_float(j->o, SL_OPT_GA, 1.0f, &s->ga, err);
    if (rc == SL_OK)
        rc = sl_tool_float(j->o, SL_OPT_BA, 0.0f, &s->ba, err);
    if (rc == SL_OK)
        rc = scales(j, SL_OPT_GW, &s->gw_file, &s->one_gw, &s->gw, &s->n_gw, err);
    if (rc == SL_OK)
        rc = scales(j, SL_OPT_BW, &s->bw_file, &s->one_bw, &s->bw, &s->n_bw, err);
    if (rc == SL_OK && s->n_bw != s->n_gw)
        rc = sl_err_set(err, SL_E_USAGE, "--gw of %zu values and --bw of %zu", s->n_gw,
                        s->n_bw);
    return rc;
}

/* Planes of the columns of W: one threshold, or one a column where there is one scale a
 * column. */
static enum sl_code weight_planes(struct job *j, bool by_column, uint64_t *flag,
                                  uint64_t *sign, float *line, struct sl_err *err)
{
    const float *w = floats(&j->w);
    size_t words = SL_RTN_WORDS(j->k);
    for (size_t c = 0; c < j->n; c++) {
        struct sl_rtn_weights part = {by_column ? w + c : w, j->k, by_column ? 1 : j->n,
                                      j->n, 1};
        float d = 0.0f, gamma;
        if (by_column || c == 0) {
            enum sl_code rc = sl_rtn_threshold(&part, &d, &gamma, err);
            if (rc != SL_OK)
                return sl_err_wrap(err, rc, "%s", j->o->path[1]);
            line[j->k] = d;
        }
        for (size_t i = 0; i < j->k; i++)
            line[i] = w[i * j->n + c];
        j->kernels.rtn.ternarise(line, j->k, line[j->k], flag + c * words,
                                 sign + c * words, NULL);
    }
    return SL_OK;
}

static enum sl_code product_rtn(struct job *j, const struct rtn_scales *s,
                                struct sl_err *err)
{
    const struct sl_rtn_ops *ops = &j->kernels.rtn;
    size_t words = SL_RTN_WORDS(j->k);
    uint64_t *af = sl_tool_room(&j->memory, words, 8),
             *as = sl_tool_room(&j->memory, words, 8);
    uint64_t *wf = sl_tool_room(&j->memory, j->n * words, 8);
    uint64_t *ws = sl_tool_room(&j->memory, j->n * words, 8);
    uint64_t *packed = sl_tool_room(&j->memory, sl_rtn_packed_words(words, j->n), 8);
    int32_t *sums = sl_tool_room(&j->memory, j->n, 4),
            *d = sl_tool_room(&j->memory, j->n, 4);
    float *line = sl_tool_room(&j->memory, j->k, 4); /* and a threshold behind it */
    struct sl_rtn_affine *affine = sl_tool_room(&j->memory, j->n, sizeof(*affine));
    enum sl_code rc = sl_tool_memory_ok(&j->memory, err);
    if (rc == SL_OK)
        rc = weight_planes(j, s->n_gw > 1, wf, ws, line, err);
    if (rc != SL_OK)
        return rc;
    sl_rtn_pack_lines(wf, ws, j->n, words, packed);
    for (size_t c = 0; c < j->n; c++)
        sums[c] = ops->sum(wf + c * words, ws + c * words, words);
    sl_rtn_affine(s->ga, s->ba, s->gw, s->bw, s->n_gw, j->n, affine);
    for (size_t i = 0; i < j->m; i++) {
        rc = sl_rtn_ternarise(ops, floats(&j->a) + i * j->k, j->k, SL_RTN_ACTIVATION_D,
                              af, as, NULL, err);
        if (rc != SL_OK)
            return sl_err_wrap(err, rc, "%s", j->o->path[0]);
        ops->dots(1, j->n, words, af, as, packed, d, j->n);
        ops->combine_line(j->n, d, ops->sum(af, as, words), sums, (int32_t)j->k, affine,
                          bias_of(j), j->c + i * j->n);
    }
    return SL_OK;
}

static enum sl_code multiply_rtn(struct job *j, struct sl_err *err)
{
    static const enum sl_tool_option allowed[] = {SL_OPT_UNIT, SL_OPT_OUT, SL_OPT_COST,
                                                  SL_OPT_BIAS, SL_OPT_GA,  SL_OPT_BA,
                                                  SL_OPT_GW,   SL_OPT_BW};
    struct rtn_scales s = {.one_gw = 1.0f};
    enum sl_code rc = sl_tool_allow(j->o, "rtn", allowed, COUNT(allowed), err);
    if (rc == SL_OK)
        rc = read_scales(j, &s, err);
    if (rc == SL_OK)
        rc = product_rtn(j, &s, err);
    sl_tool_array_deinit(&s.gw_file);
    sl_tool_array_deinit(&s.bw_file);
    if (rc == SL_OK && wants_cost(j))
        printf("{\"unit\":\"rtn\",\"macs\":%zu,\"words\":%zu,\"conversions\":%zu}\n",
               j->m * j->n * j->k, j->m * j->n * SL_RTN_WORDS(j->k),
               j->m * j->k + j->k * j->n);
    return rc;
}

/* --- command -------------------------------------------------------------------------
 */

static enum sl_code load_matrix(const char *path, struct sl_tool_array *ret,
                                struct sl_err *err)
{
    enum sl_code rc = sl_tool_array_load(path, ret, err);
    if (rc == SL_OK)
        rc = sl_tool_array_demand(path, ret, SL_NPY_F4, err);
    if (rc == SL_OK && ret->a.n_dims != 2)
        rc = sl_err_set(err, SL_E_INPUT, "%s: %u dimensions (a matrix wanted)", path,
                        ret->a.n_dims);
    return rc;
}

static enum sl_code load(struct job *j, struct sl_err *err)
{
    const char *const *path = j->o->path, *bias = j->o->value[SL_OPT_BIAS];
    enum sl_code rc = load_matrix(path[0], &j->a, err);
    if (rc == SL_OK)
        rc = load_matrix(path[1], &j->w, err);
    if (rc != SL_OK)
        return rc;
    j->m = j->a.a.dim[0];
    j->k = j->a.a.dim[1];
    j->n = j->w.a.dim[1];
    if (j->k != j->w.a.dim[0])
        return sl_err_set(err, SL_E_INPUT,
                          "%s [%zu, %zu] and %s [%zu, %zu] do not multiply (%zu rows "
                          "wanted)",
                          path[0], j->m, j->k, path[1], j->w.a.dim[0], j->n, j->k);
    size_t cells;
    if (j->k > INT32_MAX / 2 || j->n > INT32_MAX / 2 || j->m > INT32_MAX / 2 ||
        !sl_size_mul(j->m, j->n, &cells) || cells > ((size_t)1 << 32))
        return sl_err_set(err, SL_E_LIMIT, "a product of more than 2^32 values");
    if (bias != NULL) {
        rc = sl_tool_array_load(bias, &j->bias, err);
        if (rc == SL_OK)
            rc = sl_tool_array_demand(bias, &j->bias, SL_NPY_F4, err);
        if (rc == SL_OK && j->bias.a.n != j->n)
            rc = sl_err_set(err, SL_E_INPUT, "%s: %zu values (%zu columns)", bias,
                            j->bias.a.n, j->n);
    }
    j->c = sl_tool_room(&j->memory, cells, sizeof(float));
    return rc == SL_OK ? sl_tool_memory_ok(&j->memory, err) : rc;
}

enum sl_code sl_tool_matmul(const struct sl_tool_options *o, uint32_t cpu,
                            struct sl_err *err)
{
    static enum sl_code (*const multiply[])(struct job * j, struct sl_err * err) = {
        [SL_TOOL_FP32] = multiply_fp32,
        [SL_TOOL_FAST] = multiply_fast,
        [SL_TOOL_TR] = multiply_tr,
        [SL_TOOL_RTN] = multiply_rtn};
    struct job j = {.o = o};
    enum sl_tool_unit unit;
    enum sl_code rc = sl_tool_unit(o, &unit, err);
    if (rc == SL_OK && o->n_paths != 2)
        rc = sl_err_set(err, SL_E_USAGE, "matmul wants A.npy and W.npy");
    if (rc == SL_OK && o->value[SL_OPT_OUT] == NULL)
        rc = sl_err_set(err, SL_E_USAGE, "matmul: --out FILE.npy is missing");
    if (rc != SL_OK)
        return rc;
    sl_kernels_init(&j.kernels, cpu);
    rc = load(&j, err);
    if (rc == SL_OK)
        rc = multiply[unit](&j, err);
    size_t dim[2] = {j.m, j.n};
    if (rc == SL_OK)
        rc = sl_tool_npy_write(o->value[SL_OPT_OUT], SL_NPY_F4, 2, dim, j.c, err);
    sl_tool_array_deinit(&j.a);
    sl_tool_array_deinit(&j.w);
    sl_tool_array_deinit(&j.bias);
    sl_tool_memory_deinit(&j.memory);
    return rc;
}
