/* SPDX-License-Identifier: Apache-2.0 */
/* datasets.h - what the targets of data set formats check alike. Thread: one. */
#ifndef SL_TESTS_FUZZ_DATASETS_H
#define SL_TESTS_FUZZ_DATASETS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/dataset.h"

/* Shape, labels and values of a set keep their promises. */
void fuzz_check_dataset(const struct sl_dataset *d);

/* Sample i of a and sample k of b are the same, bit for bit. */
void fuzz_check_same_sample(const struct sl_dataset *a, size_t i,
                            const struct sl_dataset *b, size_t k);
/* All samples are, and so are shape and classes. */
void fuzz_check_same_dataset(const struct sl_dataset *a, const struct sl_dataset *b);

/* Loads a split whole, its labels, and the two samples `first` and first + gap + 1 of it;
 * what loads must agree. true: *ret is the whole split, to be deinit'ed. */
bool fuzz_load(const struct sl_dataset_source *src, uint32_t first, uint32_t gap,
               struct sl_dataset *ret);

#endif
