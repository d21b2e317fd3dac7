/* SPDX-License-Identifier: Apache-2.0 */
/* qnet.h - the network that all agents share: inputs -> hidden (ReLU) -> [hidden (ReLU)] -> one Q
 * value an action. Built from the elementwise kernels of the engine (accel/kernels): a row's values
 * are the same bits on every CPU, wherever in the batch it stands, so decisions need no replay
 * record of a BLAS.
 * Owns: its values. Thread: a net that nobody changes may be read by any number of threads, each
 * with a scratch of its own. */
#ifndef SL_SERVER_FEDMARL_QNET_H
#define SL_SERVER_FEDMARL_QNET_H

#include <stddef.h>
#include <stdint.h>

#include "accel/kernels/kernels.h"
#include "common/error.h"
#include "common/safetensors.h"

#define SL_QNET_INPUTS_MAX 256u
#define SL_QNET_HIDDEN_MAX 1024u
#define SL_QNET_ACTIONS_MAX 16u

struct sl_qnet_shape {
    uint32_t n_inputs;  /* 1..SL_QNET_INPUTS_MAX */
    uint32_t hidden;    /* 1..SL_QNET_HIDDEN_MAX; 256 */
    uint32_t layers;    /* hidden layers: 1 or 2 */
    uint32_t n_actions; /* 2..SL_QNET_ACTIONS_MAX */
};

/* Weights lie input-major [in, hidden] for the hidden layers and output-major [actions, hidden]
 * for the last, each before its bias. */
struct sl_qnet {
    struct sl_qnet_shape shape;
    struct sl_elem_ops ops;
    size_t n_values;
    float *values; /* [n_values] */
};

/* SL_E_RANGE, SL_E_NOMEM. Values: uniform in +-1/sqrt(fan_in), a function of the seed. */
enum sl_code sl_qnet_new(const struct sl_qnet_shape *shape, uint64_t seed, struct sl_qnet *ret,
                         struct sl_err *err);
void sl_qnet_deinit(struct sl_qnet *q); /* NULL and {0} allowed */

/* ret_q[n, n_actions] of x[n, n_inputs]. Allocates nothing. */
void sl_qnet_forward(const struct sl_qnet *q, const float *x, size_t n, float *ret_q);

/* Adds d loss / d values of one row to grads[n_values]; dq[n_actions] is d loss / d Q of x. Goes
 * through the row again for its activations. */
void sl_qnet_backward(const struct sl_qnet *q, const float *x, const float *dq, float *grads);

/* A policy file: .safetensors with "fc1.weight" [hidden, in], "fc1.bias", "fc2..." (and "fc3...")
 * as PyTorch has them, and texts. Saving is atomic and synced; SL_E_IO, SL_E_NOSPACE, SL_E_NOMEM. */
enum sl_code sl_qnet_save(const struct sl_qnet *q, const struct sl_safetensors_note *notes,
                          size_t n_notes, const char *path, struct sl_err *err);
/* Shape from the tensors. SL_E_NOTFOUND; SL_E_INPUT, one line that names the file, for what is
 * cut, damaged, no such network, or not finite. *ret_file: tensors and texts, borrowing
 * *ret_bytes (the caller's to free, after sl_safetensors_deinit); both may be NULL together. */
enum sl_code sl_qnet_load(const char *path, struct sl_qnet *ret, struct sl_safetensors *ret_file,
                          uint8_t **ret_bytes, struct sl_err *err);

/* The same from the bytes of a file. */
enum sl_code sl_qnet_parse(const char *where, const uint8_t *bytes, size_t n, struct sl_qnet *ret,
                           struct sl_safetensors *ret_file, struct sl_err *err);

#endif
