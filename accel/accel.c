/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/accel.h"

#include <cblas.h>
#include <stdlib.h>

#include "accel/kernels/cpu.h"

void sl_accel_init(void)
{
    openblas_set_num_threads(1);
}

enum sl_code sl_accel_check_env(struct sl_err *err)
{
    const char *mask = getenv("STARLING_CPU_MASK");
    uint32_t off;
    if (sl_cpu_off_parse(mask, &off))
        return SL_OK;
    return sl_err_set(err, SL_E_USAGE,
                      "STARLING_CPU_MASK=%.60s: not names of instruction sets (avx2, avx512, "
                      "vnni, vpopcntdq, neon, dotprod, all)",
                      mask);
}

const char *sl_accel_blas_name(void)
{
    return openblas_get_corename();
}
