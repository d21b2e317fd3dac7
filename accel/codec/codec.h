/* SPDX-License-Identifier: Apache-2.0 */
/* codec.h - updates as bytes. An update is one vector: the travelling tensors of a layout
 * (all but fixed ones), tensor after tensor; or several such vectors. Encodings, little-endian, by tensor:
 *
 *   fp32     values as they are
 *   bf16     upper halves of the values, rounded to nearest even
 *   bfp      groups of 16 (the last filled with zeros) as FAST converts them (units/bfp.h,
 *            e unlimited, stochastic): E' as int8 (-128: a group of zeros), then 16 signs,
 *            then 16 bits of each magnitude bit, highest first; 1 + 2 (1 + m) bytes
 *   ternary  after RTN (units/rtn.h): first of all a float32 scale per tensor, the mean of
 *            |x| over |x| > 0.7 mean |x|; then two bits a value, four values a byte, low
 *            bits first: 0 zero, 1 plus, 2 minus the scale
 *
 * Sizes are exact functions of layout and options. Decoding goes piece by piece, so that
 * nobody holds an update whole. Noise of bfp: key = hash64(run seed, client, round 2^32,
 * number of the tensor, 3, 3), counter = number of the value in its tensor.
 * Thread: a codec is constant once made; encode and decode from any thread. */
#ifndef SL_ACCEL_CODEC_CODEC_H
#define SL_ACCEL_CODEC_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"
#include "common/tensor.h"

struct sl_codec_tensor {
    size_t first, size; /* values, in the vector */
    uint64_t at;        /* its bytes' place in the blob */
};

struct sl_codec {
    enum sl_encoding encoding;
    uint32_t m;                     /* bfp: bits of a magnitude, 2 to 4 */
    struct sl_codec_tensor *tensor; /* [n_tensors]; owned */
    size_t n_tensors, n_values;
    uint64_t n_bytes, header_bytes;
};

/* vectors: how many of the layout's shape go behind one another as one update (1; 2 with
 * control variates). SL_E_RANGE for bfp with m outside 2..4, SL_E_NOMEM. */
enum sl_code sl_codec_init(const struct sl_codec_options *o, const struct sl_layout *l,
                           unsigned vectors, struct sl_codec *ret, struct sl_err *err);
void sl_codec_deinit(struct sl_codec *c); /* NULL and {0} allowed */

struct sl_codec_noise {
    uint64_t seed; /* of the run */
    uint32_t client, round;
};

/* Encodes x[n_values] to ret[n_bytes]. residual (NULL = no error feedback) is added to x
 * first and becomes what the decoded vector lacks of that sum; x is overwritten with the
 * sum. SL_E_FAILED for a value that is not finite, with nothing promised of ret. */
enum sl_code sl_codec_encode(const struct sl_codec *c, const struct sl_codec_noise *noise,
                             float *x, float *residual, uint8_t *ret, struct sl_err *err);

/* --- decoding
 * -------------------------------------------------------------------------------- */

/* Header first, then pieces in any order. */
struct sl_decoder {
    const struct sl_codec *codec;
    float *scale; /* [n_tensors], ternary; owned */
};

enum sl_code sl_decoder_init(const struct sl_codec *c, struct sl_decoder *ret,
                             struct sl_err *err);
void sl_decoder_deinit(struct sl_decoder *d); /* NULL and {0} allowed */
/* bytes[header_bytes]: the blob's first. SL_E_REJECTED for a scale that is negative or not
 * finite. */
enum sl_code sl_decoder_header(struct sl_decoder *d, const uint8_t *bytes,
                               struct sl_err *err);

/* A stretch of values that can be decoded by itself, and its bytes in the blob. */
struct sl_codec_piece {
    size_t first, n;
    uint64_t offset;
    size_t n_bytes; /* at most SL_CODEC_PIECE_BYTES(n) */
    size_t tensor;
};
#define SL_CODEC_PIECE_BYTES(n) (4 * (n) + 16)
/* The piece that begins at value `first` (0, or where a piece ended) and has at most `most`
 * values, most >= 16 and divisible by 16. Pieces in order leave no byte out. */
struct sl_codec_piece sl_codec_piece(const struct sl_codec *c, size_t first, size_t most);
/* Decodes to ret[p->n]. SL_E_REJECTED for bytes that no encoder writes; fp32 and bf16 may
 * hold infinities and NaN. */
enum sl_code sl_decoder_piece(const struct sl_decoder *d, const struct sl_codec_piece *p,
                              const uint8_t *bytes, float *ret, struct sl_err *err);

#endif
