/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/accel.h"

#include <cblas.h>

void sl_accel_init(void)
{
    openblas_set_num_threads(1);
}

const char *sl_accel_blas_name(void)
{
    return openblas_get_corename();
}
