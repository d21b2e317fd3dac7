/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/units/setup.h"

#include <stdio.h>

static enum sl_code set_up_fast(const struct sl_accelerator *a, struct sl_fast_options *o,
                                struct sl_err *err)
{
    static const uint32_t exponents[] = {
        [SL_EXPONENT_4] = 4, [SL_EXPONENT_3] = 3, [SL_EXPONENT_8] = 8};
    static const enum sl_bfp_round noises[] = {[SL_NOISE_CTR] = SL_BFP_CTR,
                                               [SL_NOISE_LFSR] = SL_BFP_LFSR,
                                               [SL_NOISE_TRUNCATE] = SL_BFP_TRUNCATE,
                                               [SL_NOISE_NEAREST] = SL_BFP_NEAREST};
    static const enum sl_fast_precision named[] = {
        [SL_PRECISION_ADAPTIVE] = SL_FAST_ADAPTIVE,
        [SL_PRECISION_LOW] = SL_FAST_LOW,
        [SL_PRECISION_HIGH] = SL_FAST_HIGH,
    };
    *o = sl_fast_defaults();
    o->precision = a->precision < SL_PRECISION_1 ? named[a->precision] : SL_FAST_FIXED;
    for (int t = 0; t < SL_FAST_TENSORS && o->precision == SL_FAST_FIXED; t++)
        o->m[t] = a->precision - SL_PRECISION_1 + 1;
    o->e = a->e == SL_EXPONENT_UNLIMITED ? 0 : exponents[a->e];
    o->g = a->g == 0 ? o->g : a->g;
    o->round = a->round == SL_ACCEL_NEAREST ? SL_BFP_NEAREST : SL_BFP_TRUNCATE;
    o->round_gradient = noises[a->round_gradient];
    o->alpha = a->alpha;
    o->beta = a->beta;
    o->refresh = a->refresh;
    o->rows = a->rows == 0 ? o->rows : a->rows;
    o->cols = a->cols == 0 ? o->cols : a->cols;
    o->hz = a->mhz == 0 ? o->hz : a->mhz * 1e6;
    o->e_pass = a->e_pass;
    o->e_bit = a->e_bit;
    return sl_fast_check(o, err);
}

static enum sl_code set_up_tr(const struct sl_accelerator *a, struct sl_tr_options *o,
                              struct sl_err *err)
{
    static const enum sl_tr_encoder encoders[] = {[SL_ENCODER_NAF] = SL_TR_NAF,
                                                  [SL_ENCODER_WINDOW] = SL_TR_WINDOW,
                                                  [SL_ENCODER_BINARY] = SL_TR_BINARY};
    *o = sl_tr_defaults();
    o->bits_w = a->bits_w;
    o->bits_x = a->bits_x;
    o->g = a->g == 0 ? o->g : a->g;
    o->k = a->k;
    o->s = a->s;
    o->enc = encoders[a->enc];
    o->rows = a->rows == 0 ? o->rows : a->rows;
    o->cols = a->cols == 0 ? o->cols : a->cols;
    o->hz = a->mhz == 0 ? o->hz : a->mhz * 1e6;
    o->e_pair = a->e_pair;
    o->e_bit = a->e_bit;
    return sl_tr_check(o, err);
}

static enum sl_code set_up_rtn(const struct sl_accelerator *a, struct sl_rtn_options *o,
                               struct sl_err *err)
{
    *o = sl_rtn_defaults();
    o->word_bits = a->word_bits;
    o->lanes = a->lanes;
    o->hz = a->mhz == 0 ? o->hz : a->mhz * 1e6;
    o->e_ternary = a->e_ternary;
    o->e_fp32 = a->e_fp32;
    return sl_rtn_check(o, err);
}

enum sl_code sl_unit_setup(const struct sl_accelerator *a, struct sl_unit_setup *ret,
                           struct sl_err *err)
{
    struct sl_unit_setup s = {.unit = &sl_matmul_fp32};
    enum sl_code rc = SL_OK;
    switch (a->matmul) {
    case SL_MATMUL_FP32:
        break;
    case SL_MATMUL_FAST:
        s.unit = &sl_matmul_fast;
        rc = set_up_fast(a, &s.fast, err);
        break;
    case SL_MATMUL_TR:
        s.unit = &sl_matmul_tr;
        rc = set_up_tr(a, &s.tr, err);
        break;
    case SL_MATMUL_RTN:
        s.unit = &sl_matmul_rtn;
        rc = set_up_rtn(a, &s.rtn, err);
        break;
    }
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "accelerator");
    *ret = s;
    return SL_OK;
}

struct sl_unit_options sl_unit_setup_options(const struct sl_unit_setup *s)
{
    return (struct sl_unit_options){.fast = s->unit == &sl_matmul_fast ? &s->fast : NULL,
                                    .tr = s->unit == &sl_matmul_tr ? &s->tr : NULL,
                                    .rtn = s->unit == &sl_matmul_rtn ? &s->rtn : NULL};
}

void sl_unit_text(const struct sl_accelerator *a, char ret[SL_UNIT_TEXT])
{
    static const char *const precisions[] = {SL_PRECISION_NAMES};
    static const char *const encoders[] = {SL_ENCODER_NAMES};
    switch (a->matmul) {
    case SL_MATMUL_FP32:
        snprintf(ret, SL_UNIT_TEXT, "fp32");
        break;
    case SL_MATMUL_FAST:
        snprintf(ret, SL_UNIT_TEXT, "fast %s", precisions[a->precision]);
        break;
    case SL_MATMUL_TR:
        snprintf(ret, SL_UNIT_TEXT, "tr %s g %u k %u s %u", encoders[a->enc],
                 a->g == 0 ? sl_tr_defaults().g : (unsigned)a->g, (unsigned)a->k,
                 (unsigned)a->s);
        break;
    case SL_MATMUL_RTN:
        snprintf(ret, SL_UNIT_TEXT, "rtn");
        break;
    }
}

struct sl_unit_ledger sl_unit_ledger_since(const struct sl_unit_ledger *now,
                                           const struct sl_unit_ledger *before)
{
    struct sl_unit_ledger l = *now;
    for (int p = 0; p < SL_PASSES; p++) {
        l.calls[p] -= before->calls[p];
        l.macs[p] -= before->macs[p];
        l.work[p] -= before->work[p];
        l.cycles[p] -= before->cycles[p];
        l.conversions[p] -= before->conversions[p];
        l.bits[p] -= before->bits[p];
    }
    for (int r = 0; r < SL_ROLES; r++) {
        l.widths[r] -= before->widths[r];
        l.wide[r] -= before->wide[r];
    }
    l.infinities -= before->infinities;
    l.ternary_macs -= before->ternary_macs;
    return l;
}

void sl_unit_cost(const struct sl_unit_setup *s, const struct sl_unit_ledger *l,
                  struct sl_task_cost *ret)
{
    struct sl_task_cost c = {0};
    for (int p = 0; p < SL_PASSES; p++) {
        c.macs += l->macs[p];
        c.work += l->work[p];
        c.cycles += l->cycles[p];
        c.conversions += l->conversions[p];
        c.bits += l->bits[p];
    }
    if (s->unit == &sl_matmul_fast)
        c.energy = sl_fast_energy(&s->fast, l);
    else if (s->unit == &sl_matmul_tr)
        c.energy = sl_tr_energy(&s->tr, l);
    else if (s->unit == &sl_matmul_rtn)
        c.energy = sl_rtn_energy(&s->rtn, l);
    *ret = c;
}
