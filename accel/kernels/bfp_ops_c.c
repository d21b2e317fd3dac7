/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/bfp_body.h"

/* P of one group and all columns of a panel. */
static void group_sums(const struct sl_bfp_product *p, size_t a, size_t b, size_t quads,
                       int32_t ret[SL_BFP_PANEL])
{
    const uint8_t *x = p->a.mantissa + a * LANES;
    const int8_t *y = p->b.mantissa + b * SL_BFP_PANEL_BYTES;
    for (size_t i = 0; i < SL_BFP_PANEL; i++) {
        int32_t sum = 0;
        for (size_t k = 0; k < quads * 4; k++)
            sum += (x[k] - 16) * y[(k / 4 * SL_BFP_PANEL + i) * 4 + k % 4];
        ret[i] = sum;
    }
}

static void product_row(const struct sl_bfp_product *p, size_t row, size_t panel,
                        float acc[SL_BFP_PANEL])
{
    for (size_t t = 0; t < p->taps; t++)
        for (size_t g = 0; g < p->groups; g++) {
            size_t a = row + p->tap[t].a + g;
            size_t b = panel * p->b.groups + p->tap[t].b + g;
            int32_t sum[SL_BFP_PANEL];
            group_sums(p, a, b, g + 1 < p->groups ? SL_BFP_QUADS : p->last_quads, sum);
            for (size_t i = 0; i < SL_BFP_PANEL; i++)
                acc[i] +=
                    (float)sum[i] * p->b.scale[b * SL_BFP_PANEL + i] * p->a.scale[a];
        }
}

static void product(const struct sl_bfp_product *p)
{
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < p->n; j += SL_BFP_PANEL) {
            float acc[SL_BFP_PANEL] = {0};
            float *c = p->c + i * p->ldc + j;
            for (size_t l = 0; p->resume && l < SL_BFP_PANEL && j + l < p->n; l++)
                acc[l] = c[l];
            product_row(p, p->row == NULL ? i * p->row_step : p->row[i], j / SL_BFP_PANEL,
                        acc);
            for (size_t l = 0; l < SL_BFP_PANEL && j + l < p->n; l++)
                c[l] = p->accumulate ? c[l] + p->alpha * acc[l] : p->alpha * acc[l];
        }
}

const struct sl_bfp_ops sl_bfp_ops_c = {
    .largest = largest,
    .pack_rows = pack_rows,
    .pack_columns = pack_columns,
    .rows_to_columns = rows_to_columns,
    .product = product,
    .values = values,
    .direct = direct,
    .transpose = transpose,
    .pack_wide = pack_wide,
    .product_wide = product_wide,
};
