/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/tool/unit_options.h"

static const char *const unit_names[] = {[SL_TOOL_FP32] = "fp32",
                                         [SL_TOOL_FAST] = "fast",
                                         [SL_TOOL_TR] = "tr",
                                         [SL_TOOL_RTN] = "rtn"};

const char *sl_tool_unit_name(enum sl_tool_unit u)
{
    return unit_names[u];
}

enum sl_code sl_tool_unit(const struct sl_tool_options *o, enum sl_tool_unit *ret,
                          struct sl_err *err)
{
    size_t which = 0;
    if (o->value[SL_OPT_UNIT] == NULL)
        return sl_err_set(err, SL_E_USAGE,
                          "%s: --unit is missing (fp32, fast, tr or rtn)", o->verb);
    enum sl_code rc = sl_tool_choice(o, SL_OPT_UNIT, unit_names, 4, 0, &which, err);
    if (rc == SL_OK)
        *ret = (enum sl_tool_unit)which;
    return rc;
}

static enum sl_code small_int(const struct sl_tool_options *o, enum sl_tool_option which,
                              int64_t lo, int64_t hi, unsigned *io, struct sl_err *err)
{
    int64_t v = 0;
    enum sl_code rc = sl_tool_int(o, which, lo, hi, (int64_t)*io, &v, err);
    if (rc == SL_OK)
        *io = (unsigned)v;
    return rc;
}

enum sl_code sl_tool_tr_options(const struct sl_tool_options *o,
                                struct sl_tr_options *ret, struct sl_err *err)
{
    static const char *const encoders[] = {"naf", "window", "binary"};
    struct sl_tr_options t = sl_tr_defaults();
    size_t enc = t.enc;
    enum sl_code rc =
        small_int(o, SL_OPT_BITS_W, SL_TR_BITS_MIN, SL_TR_BITS_MAX, &t.bits_w, err);
    if (rc == SL_OK)
        rc = small_int(o, SL_OPT_BITS_X, SL_TR_BITS_MIN, SL_TR_BITS_MAX, &t.bits_x, err);
    if (rc == SL_OK)
        rc = small_int(o, SL_OPT_G, 1, SL_TR_G_MAX, &t.g, err);
    if (rc == SL_OK)
        rc = small_int(o, SL_OPT_K, 1, SL_TR_BUDGET_MAX, &t.k, err);
    if (rc == SL_OK)
        rc = small_int(o, SL_OPT_S, 1, SL_TR_BITS_MAX + 1, &t.s, err);
    if (rc == SL_OK)
        rc = sl_tool_choice(o, SL_OPT_ENC, encoders, 3, enc, &enc, err);
    t.enc = (enum sl_tr_encoder)enc;
    if (rc == SL_OK)
        rc = sl_tr_check(&t, err);
    if (rc == SL_OK)
        *ret = t;
    return rc;
}

enum sl_code sl_tool_bfp_options(const struct sl_tool_options *o, enum sl_tool_option m,
                                 enum sl_tool_option round, enum sl_tool_option key,
                                 struct sl_bfp_options *ret, struct sl_err *err)
{
    static const char *const roundings[] = {"truncate", "nearest", "ctr", "lfsr",
                                            "given"};
    struct sl_bfp_options b = {.g = 16, .e = 4, .m = 4};
    size_t mode = SL_BFP_TRUNCATE;
    enum sl_code rc = small_int(o, SL_OPT_G, 1, INT32_MAX, &b.g, err);
    if (rc == SL_OK)
        rc = small_int(o, SL_OPT_E, 0, SL_BFP_E_MAX, &b.e, err);
    if (rc == SL_OK) /* --m, unless the operand has a width of its own */
        rc = small_int(o, SL_OPT_M, 1, SL_BFP_M_MAX, &b.m, err);
    if (rc == SL_OK)
        rc = small_int(o, m, 1, SL_BFP_M_MAX, &b.m, err);
    if (rc == SL_OK)
        rc = sl_tool_choice(o, round, roundings, 5, mode, &mode, err);
    if (rc == SL_OK)
        rc = sl_tool_u64(o, key, 0, &b.key, err);
    if (rc == SL_OK)
        rc = sl_tool_u64(o, SL_OPT_LFSR_START, 0, &b.lfsr_start, err);
    if (rc == SL_OK) /* given noise comes from a file, after this */
        rc = sl_bfp_check(&b, err);
    b.round = (enum sl_bfp_round)mode;
    if (rc == SL_OK)
        *ret = b;
    return rc;
}
