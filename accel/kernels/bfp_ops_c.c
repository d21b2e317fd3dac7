/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/bfp_body.h"

#define TILE_ROWS 16 /* for which columns are laid out once */

/* A number for each column of a panel, in whatever registers there are; the compiler's
 * vector types keep the order of every operation. */
typedef int16_t whole __attribute__((vector_size(SL_BFP_PANEL * sizeof(int16_t))));
typedef float real __attribute__((vector_size(SL_BFP_PANEL * sizeof(float))));

static real load_real(const float *x)
{
    real v;
    memcpy(&v, x, sizeof(v));
    return v;
}

/* A group of a panel by k. */
static void lay_out(const int8_t *y, whole ret[LANES])
{
    int16_t by_k[LANES][SL_BFP_PANEL];
    for (size_t q = 0; q < SL_BFP_QUADS; q++)
        for (size_t i = 0; i < SL_BFP_PANEL; i++)
            for (size_t k = 0; k < 4; k++)
                by_k[q * 4 + k][i] = y[(q * SL_BFP_PANEL + i) * 4 + k];
    memcpy(ret, by_k, sizeof(by_k));
}

/* P of one group of a row and all columns: at most 16 * 15 * 15, exact in 16 bits. */
static real group_sums(const uint8_t *x, const whole y[LANES])
{
    whole sum = {0};
    for (size_t k = 0; k < LANES; k++)
        sum += (int16_t)(x[k] - 16) * y[k];
    return __builtin_convertvector(sum, real);
}

/* Rows row to row + rows - 1 of one panel. */
static void product_tile(const struct sl_bfp_product *p, size_t row, size_t rows,
                         size_t panel, real acc[TILE_ROWS])
{
    size_t first[TILE_ROWS];
    for (size_t r = 0; r < rows; r++)
        first[r] = p->row == NULL ? (row + r) * p->row_step : p->row[row + r];
    for (size_t t = 0; t < p->taps; t++)
        for (size_t g = 0; g < p->groups; g++) {
            size_t b = panel * p->b.groups + p->tap[t].b + g;
            real sb = load_real(p->b.scale + b * SL_BFP_PANEL);
            whole y[LANES];
            lay_out(p->b.mantissa + b * SL_BFP_PANEL_BYTES, y);
            for (size_t r = 0; r < rows; r++) {
                size_t a = first[r] + p->tap[t].a + g;
                real sum = group_sums(p->a.mantissa + a * LANES, y);
                acc[r] += sum * sb * p->a.scale[a];
            }
        }
}

static void product(const struct sl_bfp_product *p)
{
    for (size_t j = 0; j < p->n; j += SL_BFP_PANEL)
        for (size_t i = 0; i < p->m; i += TILE_ROWS) {
            real acc[TILE_ROWS] = {{0}};
            size_t rows = p->m - i < TILE_ROWS ? p->m - i : TILE_ROWS;
            size_t n = p->n - j < SL_BFP_PANEL ? p->n - j : SL_BFP_PANEL;
            for (size_t r = 0; r < rows && p->resume; r++)
                memcpy(&acc[r], p->c + (i + r) * p->ldc + j, n * sizeof(float));
            product_tile(p, i, rows, j / SL_BFP_PANEL, acc);
            for (size_t r = 0; r < rows; r++)
                for (size_t l = 0; l < n; l++) {
                    float *c = p->c + (i + r) * p->ldc + j + l;
                    *c = p->accumulate ? *c + p->alpha * acc[r][l] : p->alpha * acc[r][l];
                }
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
