/* SPDX-License-Identifier: Apache-2.0 */
/* Input: three bytes of a shape (width, classes, bias and balance), then a client's statistics. What can be
 * read is written again to the same bytes; what passes the check too can be summed and solved, or is refused
 * for having no Cholesky factor. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/calibrate.h"
#include "tests/fuzz/files.h"

#define WIDTH_MAX 16
#define CLASSES_MAX 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sl_calib_shape shape_of(const uint8_t *data)
{
    return (struct sl_calib_shape){.width = 1 + data[0] % WIDTH_MAX,
                                   .classes = 1 + data[1] % CLASSES_MAX,
                                   .bias = (data[2] & 1) != 0,
                                   .balanced = (data[2] & 2) != 0};
}

static void check_same_bytes(const struct sl_calib *c, const uint8_t *bytes, size_t n)
{
    uint8_t *again = malloc(n);
    fuzz_must(again != NULL);
    sl_calib_write(c, again);
    fuzz_must(memcmp(again, bytes, n) == 0);
    free(again);
}

/* A federation of this client and itself. */
static void check_solves(const struct sl_calib *c)
{
    struct sl_calib sum;
    struct sl_err err;
    double w[WIDTH_MAX * CLASSES_MAX], lambda;
    fuzz_must(sl_calib_init(&sum, &c->shape, &err) == SL_OK);
    sl_calib_merge(&sum, c);
    sl_calib_merge(&sum, c);
    fuzz_must(sum.n == 2 * c->n);
    enum sl_code rc = sl_calib_solve(&sum, 1e-6 * (double)sum.n, NULL, w, &lambda, &err);
    fuzz_check_line(rc, &err);
    fuzz_must(rc == SL_OK || rc == SL_E_FAILED);
    for (size_t i = 0; rc == SL_OK && i < sl_calib_n_u(&c->shape); i++)
        fuzz_must(isfinite(w[i]));
    sl_calib_deinit(&sum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_calib c;
    struct sl_err err;
    if (size < 3)
        return 0;
    struct sl_calib_shape s = shape_of(data);
    struct sl_calib_limits l = {.max_samples = UINT32_MAX};
    fuzz_must(sl_calib_init(&c, &s, &err) == SL_OK);
    enum sl_code rc = sl_calib_read(&c, data + 3, size - 3, &err);
    fuzz_check_line(rc, &err);
    fuzz_must(rc == SL_OK || rc == SL_E_REJECTED);
    if (rc == SL_OK) {
        check_same_bytes(&c, data + 3, size - 3);
        rc = sl_calib_check(&c, &l, &err);
        fuzz_check_line(rc, &err);
        fuzz_must(rc == SL_OK || rc == SL_E_REJECTED);
        if (rc == SL_OK)
            check_solves(&c);
    }
    sl_calib_deinit(&c);
    return 0;
}
