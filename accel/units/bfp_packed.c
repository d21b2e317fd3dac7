/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/units/bfp_packed.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

bool sl_bfp_is_narrow(const struct sl_bfp_options *o)
{
    return o->g == SL_BFP_GROUP && o->m <= SL_BFP_NARROW_M;
}

void sl_bfp_packed_deinit(struct sl_bfp_packed *p)
{
    if (p == NULL)
        return;
    free(p->wide.mantissa);
    free(p->wide.scale);
    free(p->rows.mantissa);
    free(p->rows.scale);
    free(p->columns.mantissa);
    free(p->columns.scale);
    free(p->columns.start);
    *p = (struct sl_bfp_packed){0};
}

/* Zeroed room for n values, at least one. */
static void *room(size_t n, size_t size, bool *ok)
{
    void *p = sl_calloc(n + 1, size);
    *ok = *ok && p != NULL;
    return p;
}

static bool take_memory(struct sl_bfp_packed *p)
{
    size_t all = p->lines * p->groups;
    size_t panels = (p->lines + SL_BFP_PANEL - 1) / SL_BFP_PANEL * p->groups;
    bool ok = true;
    p->wide.step = p->rows.step = p->columns.groups = p->groups;
    p->wide.mantissa = room(all * p->o.g, sizeof(int16_t), &ok);
    p->wide.scale = room(all, sizeof(float), &ok);
    if (!sl_bfp_is_narrow(&p->o))
        return ok;
    p->rows.mantissa = room(all, SL_BFP_GROUP, &ok);
    p->rows.scale = room(all, sizeof(float), &ok);
    if (p->l.n0 != 1)
        return ok;
    p->columns.mantissa = room(panels, SL_BFP_PANEL_BYTES, &ok);
    p->columns.scale = room(panels, SL_BFP_PANEL * sizeof(float), &ok);
    p->columns.start = room(panels, SL_BFP_PANEL * sizeof(int32_t), &ok);
    return ok;
}

/* Lines of one n0 at a time: that is how kernels take them. */
static void convert(const struct sl_bfp_ops *ops, const float *x, const uint8_t *noise,
                    struct sl_bfp_packed *p)
{
    const struct sl_bfp_lines *l = &p->l;
    for (size_t i = 0; i < l->n0; i++) {
        size_t at = i * l->n1 * p->groups;
        struct sl_bfp_source s = {.x = x + i * l->step0,
                                  .lines = l->n1,
                                  .k = l->k,
                                  .line_step = l->step1,
                                  .k_step = l->step_k,
                                  .exponent_t = p->exponent_t,
                                  .code_max = sl_bfp_code_max(p->o.e),
                                  .m = p->o.m,
                                  .round = noise != NULL ? SL_BFP_GIVEN : p->o.round,
                                  .key = p->o.key,
                                  .given = noise,
                                  .first = i * l->n1 * l->k,
                                  .number_step = l->k};
        ops->pack_wide(&s, p->o.g,
                       &(struct sl_bfp_wide){p->wide.mantissa + at * p->o.g,
                                             p->wide.scale + at, p->groups});
        if (p->rows.mantissa != NULL)
            ops->pack_rows(&s,
                           &(struct sl_bfp_rows){p->rows.mantissa + at * SL_BFP_GROUP,
                                                 p->rows.scale + at, p->groups});
        if (p->columns.mantissa != NULL)
            ops->pack_columns(&s, &p->columns);
    }
}

enum sl_code sl_bfp_pack(const struct sl_bfp_ops *ops, const struct sl_bfp_options *o,
                         const struct sl_bfp_lines *l, const float *x,
                         struct sl_bfp_packed *ret, struct sl_err *err)
{
    struct sl_bfp_packed p = {.o = *o, .l = *l, .lines = sl_bfp_line_count(l)};
    uint8_t *noise = NULL;
    enum sl_code rc = sl_bfp_check(o, err);
    if (rc == SL_OK)
        rc = sl_bfp_tensor_exponent(l, x, &p.exponent_t, err);
    if (rc != SL_OK)
        return rc;
    p.groups = sl_bfp_groups(l->k, o->g);
    bool ok = take_memory(&p);
    if (o->round >= SL_BFP_LFSR) /* noise that kernels do not draw themselves */
        noise = room(p.lines * l->k, 1, &ok);
    if (!ok) {
        sl_bfp_packed_deinit(&p);
        free(noise);
        return sl_err_set(err, SL_E_NOMEM, "packing %zu values", p.lines * l->k);
    }
    if (noise != NULL)
        sl_bfp_numbered_noise(o, l, noise);
    convert(ops, x, noise, &p);
    free(noise);
    p.o.given = NULL;
    *ret = p;
    return SL_OK;
}

enum sl_code sl_bfp_packed_product(const struct sl_bfp_ops *ops,
                                   const struct sl_bfp_packed *a,
                                   const struct sl_bfp_packed *b, bool wide, float *ret,
                                   struct sl_err *err)
{
    const struct sl_bfp_tap tap = {0, 0};
    enum sl_code rc = sl_bfp_check_product(a->o.g, a->o.m, b->o.m, err);
    if (rc != SL_OK)
        return rc;
    memset(ret, 0, a->lines * b->lines * sizeof(*ret));
    if (a->lines == 0 || b->lines == 0 || a->groups == 0)
        return SL_OK;
    if (wide || a->rows.mantissa == NULL || b->columns.mantissa == NULL)
        ops->product_wide(&(struct sl_bfp_wide_product){.m = a->lines,
                                                        .n = b->lines,
                                                        .tap = &tap,
                                                        .taps = 1,
                                                        .groups = a->groups,
                                                        .g = a->o.g,
                                                        .row_step = a->groups,
                                                        .a = a->wide,
                                                        .b = b->wide,
                                                        .alpha = 1.0f,
                                                        .c = ret,
                                                        .ldc = b->lines});
    else
        ops->product(
            &(struct sl_bfp_product){.m = a->lines,
                                     .n = b->lines,
                                     .tap = &tap,
                                     .taps = 1,
                                     .groups = a->groups,
                                     .last_quads = ((a->l.k - 1) % SL_BFP_GROUP + 4) / 4,
                                     .row_step = a->groups,
                                     .a = a->rows,
                                     .b = b->columns,
                                     .alpha = 1.0f,
                                     .c = ret,
                                     .ldc = b->lines});
    return SL_OK;
}
