/* SPDX-License-Identifier: Apache-2.0 */
/* matmul_fast.c - unit "fast": products in block floating point, groups along the
 * reduction, by integer dot products. The left operand is packed as rows, the right one
 * as columns; weights stay packed, for the forward product and for the data's gradient,
 * until they change. A tensor with a NaN has no groups: the result is NaN then. The width
 * of a tensor is chosen over the rows of its matrix as it lies in memory: input features
 * for weights and activations, output features for gradients. */
#include "accel/units/matmul.h"

#include <math.h>

#include "accel/units/fast_operand.h"
#include "common/mem.h"

/* --- memory
 * ---------------------------------------------------------------------------------- */

static size_t product_bytes(const struct sl_fast_options *o, size_t m, size_t n, size_t k)
{
    struct sl_fast_room r = {0};
    size_t groups = sl_fast_groups(o, k);
    sl_fast_take_rows(&r, o, m * groups);
    sl_fast_take_columns(&r, o, n, groups);
    sl_fast_take(&r, sl_fast_noise_bytes(o, (m > n ? m : n) * k));
    return r.used;
}

struct packed_weights {
    struct sl_fast_kept *kept;
    struct sl_fast_columns columns[2]; /* forward: of `out` lines; gradient: of `in` */
};

static struct packed_weights take_weights(struct sl_fast_room *r,
                                          const struct sl_fast_options *o, size_t out,
                                          size_t in)
{
    struct packed_weights w = {.kept = sl_fast_take(r, sizeof(*w.kept))};
    w.columns[0] = sl_fast_take_columns(r, o, out, sl_fast_groups(o, in));
    w.columns[1] = sl_fast_take_columns(r, o, in, sl_fast_groups(o, out));
    return w;
}

static void matmul_bytes(const struct sl_unit_options *options, size_t m, size_t n,
                         size_t k, bool keep, struct sl_unit_bytes *ret)
{
    struct sl_fast_options o = sl_fast_options_of(options);
    const size_t d[3] = {m, n, k};
    for (int i = 0; i < 3; i++) { /* each length may be the reduction */
        size_t a = d[(i + 1) % 3], b = d[(i + 2) % 3];
        size_t one = product_bytes(&o, a, b, d[i]), two = product_bytes(&o, b, a, d[i]);
        one = one > two ? one : two;
        ret->scratch = one > ret->scratch ? one : ret->scratch;
    }
    struct sl_fast_room r = {0};
    take_weights(&r, &o, n, k);
    if (keep)
        ret->keep = r.used;
}

/* --- operands
 * -------------------------------------------------------------------------------- */

/* An operand as lines along the reduction. */
struct side {
    const struct sl_operand *o;
    size_t lines, k;
    size_t rows, cols; /* as it lies in memory */
    size_t line_step, k_step;
    struct sl_fast_tensor t;
};

/* `crossed`: the reduction runs down the rows in memory. */
static struct side side_of(const struct sl_operand *o, size_t lines, size_t k,
                           bool crossed)
{
    return (struct side){.o = o,
                         .lines = lines,
                         .k = k,
                         .rows = crossed ? k : lines,
                         .cols = crossed ? lines : k,
                         .line_step = crossed ? 1 : o->ld,
                         .k_step = crossed ? o->ld : 1};
}

static int tensor_of(enum sl_role role)
{
    return role == SL_ROLE_WEIGHT       ? SL_FAST_W
           : role == SL_ROLE_ACTIVATION ? SL_FAST_A
                                        : SL_FAST_G;
}

/* Exponent and width; false for a NaN. */
static bool settle(const struct sl_fast_call *f, struct side *s)
{
    const struct sl_bfp_lines by_rows = {
        .n0 = 1, .n1 = s->rows, .k = s->cols, .step1 = s->o->ld, .step_k = 1};
    struct sl_fast_kept *kept = f->ctx->keep;
    if (!sl_fast_measure(f, s->o->data, s->rows, s->cols, s->o->ld, &s->t.exponent_t))
        return false;
    s->t.m =
        sl_fast_width_of(f, tensor_of(s->o->role), s->o->data, &by_rows, s->t.exponent_t,
                         kept == NULL ? NULL : &kept->width[tensor_of(s->o->role)]);
    s->t.round = f->o.round;
    return true;
}

static struct sl_bfp_source source_of(const struct sl_fast_call *f, const struct side *s)
{
    struct sl_bfp_source src = sl_fast_source(f, &s->t);
    src.x = s->o->data;
    src.lines = s->lines;
    src.k = s->k;
    src.line_step = s->line_step;
    src.k_step = s->k_step;
    src.number_step = s->k;
    return src;
}

/* The layer's own weights, packed for this pass; false for a NaN. converted: values. */
static bool kept_columns(const struct sl_fast_call *f, struct side *b,
                         struct sl_fast_columns *ret, uint64_t *converted)
{
    bool backward = f->pass == SL_PASS_INPUT_GRADIENT;
    struct sl_fast_room r = {.base = f->ctx->keep};
    struct packed_weights w =
        take_weights(&r, &f->o, backward ? b->k : b->lines, backward ? b->lines : b->k);
    struct sl_fast_kept *kept = w.kept;
    if (kept->w != b->o->data || kept->version != f->ctx->version) {
        kept->usable = settle(f, b);
        kept->tensor = b->t;
        kept->w = b->o->data;
        kept->version = f->ctx->version;
        kept->packed[0] = kept->packed[1] = false;
    }
    if (!kept->usable)
        return false;
    b->t = kept->tensor;
    *ret = w.columns[backward];
    if (!kept->packed[backward]) {
        struct sl_bfp_source s = source_of(f, b);
        sl_fast_pack_columns(f, &s, ret, 0);
        *converted += b->lines * b->k;
        kept->packed[backward] = true;
    }
    return true;
}

static void fill_nan(const struct sl_matmul *op)
{
    for (size_t i = 0; i < op->m; i++)
        for (size_t j = 0; j < op->n; j++)
            op->c[i * op->ldc + j] = NAN;
}

/* Widths, noise and packed forms of both operands; false for a NaN. */
static bool pack_both(const struct sl_fast_call *f, struct side *a, struct side *b,
                      struct sl_fast_rows *rows, struct sl_fast_columns *columns,
                      uint64_t *converted)
{
    struct sl_fast_room r = {.base = f->ctx->scratch};
    size_t groups = sl_fast_groups(&f->o, a->k);
    bool kept = f->ctx->keep != NULL && b->o->role == SL_ROLE_WEIGHT;
    *rows = sl_fast_take_rows(&r, &f->o, a->lines * groups);
    *columns = sl_fast_take_columns(&r, &f->o, b->lines, groups);
    uint8_t *registers = sl_fast_take(&r, 0);
    if (!settle(f, a))
        return false;
    if (kept && !kept_columns(f, b, columns, converted))
        return false;
    if (!kept && !settle(f, b))
        return false;
    if (a->o->role == SL_ROLE_GRADIENT)
        sl_fast_noise(f, a->lines, a->k, registers, &a->t);
    struct sl_bfp_source s = source_of(f, a);
    sl_fast_pack_rows(f, &s, rows, 0, groups);
    *converted += a->lines * a->k;
    if (kept)
        return true;
    if (b->o->role == SL_ROLE_GRADIENT)
        sl_fast_noise(f, b->lines, b->k, registers, &b->t);
    s = source_of(f, b);
    sl_fast_pack_columns(f, &s, columns, 0);
    *converted += b->lines * b->k;
    return true;
}

static void matmul(struct sl_unit_ctx *ctx, const struct sl_matmul *op)
{
    struct sl_fast_call f = sl_fast_call_of(ctx, op->pass);
    struct side a = side_of(&op->a, op->m, op->k, op->a.transposed);
    struct side b = side_of(&op->b, op->n, op->k, !op->b.transposed);
    size_t groups = sl_fast_groups(&f.o, op->k);
    const struct sl_bfp_tap tap = {0, 0};
    struct sl_fast_rows rows;
    struct sl_fast_columns columns;
    uint64_t converted = 0;
    if (pack_both(&f, &a, &b, &rows, &columns, &converted))
        sl_fast_multiply(&f, &(struct sl_fast_product){.m = op->m,
                                                       .n = op->n,
                                                       .tap = &tap,
                                                       .taps = 1,
                                                       .k = op->k,
                                                       .row_step = groups,
                                                       .a = &rows,
                                                       .b = &columns,
                                                       .alpha = op->alpha,
                                                       .accumulate = op->accumulate,
                                                       .c = op->c,
                                                       .ldc = op->ldc});
    else
        fill_nan(op);
    ctx->place.calls[op->pass]++;
    sl_fast_add_count(&f, &(struct sl_fast_count){.m = op->m,
                                                  .n = op->n,
                                                  .k = op->k,
                                                  .groups = groups,
                                                  .ma = a.t.m,
                                                  .mb = b.t.m,
                                                  .converted = converted,
                                                  .groups_a = op->m * groups,
                                                  .groups_b = op->n * groups});
}

const struct sl_matmul_unit sl_matmul_fast = {
    .name = "fast",
    .matmul_bytes = matmul_bytes,
    .conv_bytes = sl_fast_conv_bytes,
    .matmul = matmul,
    .conv_forward = sl_fast_conv_forward,
    .conv_backward_data = sl_fast_conv_data,
    .conv_backward_weights = sl_fast_conv_weights,
};
