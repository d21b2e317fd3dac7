/* SPDX-License-Identifier: Apache-2.0 */
/* tmc.h - temporal message control (Zhang, Lin, Zhang 2020, Algorithm 1): a sender sends a vector of
 * floats only when it has moved by more than delta since it was last sent, or when that was
 * `timeout` steps ago; a receiver goes on with the last vector of each peer until it is older than
 * `window` steps. Nothing is acknowledged and nothing sent again: a lost record is made up for by the
 * next one, and window >= 2 timeout - 1 bridges the loss of a keep-alive.
 *   timeout 1: every step is sent.  window 0: only what arrived in this very step counts.
 * A step is a round or a tick of telemetry; its number comes from the caller and never goes back.
 * What a silent peer last said is no claim about its state now: whoever decides gets age and validity
 * beside the values (sl_tmc_view), since for telemetry a vector of zeros would be a lie.
 *
 * A record, little-endian, 20 + 4 width bytes:
 *     0  u8 type 'M', u8 version 1, u8 flags (1: keep-alive), u8 width (1..SL_TMC_WIDTH_MAX)
 *     4  u32 client     8  u32 boot     12  u32 sequence     16  u32 round
 *    20  width floats, all finite
 * It has no checksum of its own: records travel inside session records, whose AEAD covers them.
 *
 * A gate borrows nothing; an inbox owns its table. Thread: one at a time each. Reads no clock, draws
 * nothing, sends nothing. */
#ifndef SL_COMMON_TMC_H
#define SL_COMMON_TMC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_TMC_WIDTH_MAX 32u
#define SL_TMC_PEERS_MAX (1u << 20)
#define SL_TMC_STEPS_MAX (1u << 20) /* of timeout and window */
#define SL_TMC_HEADER_BYTES 20u
#define SL_TMC_RECORD_MAX (SL_TMC_HEADER_BYTES + 4u * SL_TMC_WIDTH_MAX)

static inline size_t sl_tmc_record_bytes(uint32_t width)
{
    return SL_TMC_HEADER_BYTES + 4u * (size_t)width;
}

/* What delta is compared with: the authors' code takes the squared Euclidean distance, the paper's
 * text the distance itself. 0.05 squared is 0.224 plain. */
enum sl_tmc_norm { SL_TMC_SQUARED, SL_TMC_PLAIN };

struct sl_tmc_options {
    uint32_t width; /* A: floats of a vector, 1..SL_TMC_WIDTH_MAX */
    enum sl_tmc_norm norm;
    double delta;     /* >= 0; sent when the distance is greater */
    uint32_t timeout; /* steps, 1..SL_TMC_STEPS_MAX: from the last sending to a keep-alive */
    uint32_t window;  /* steps, 0..SL_TMC_STEPS_MAX: the greatest age that still counts */
    /* Distances are of value * scale: one delta for features of different units. > 0 and finite. */
    float scale[SL_TMC_WIDTH_MAX];
};

/* Squared norm, delta 0.05, timeout 6, window 12, scale 1. */
struct sl_tmc_options sl_tmc_defaults(uint32_t width);
/* SL_E_RANGE: which field, its value, what is allowed. */
enum sl_code sl_tmc_check(const struct sl_tmc_options *o, struct sl_err *err);

struct sl_tmc_record {
    uint32_t client, boot, sequence, round;
    bool keepalive;
    uint32_t width;
    float values[SL_TMC_WIDTH_MAX];
};

/* Writes sl_tmc_record_bytes(r->width) bytes; returns how many. */
size_t sl_tmc_record_put(const struct sl_tmc_record *r, uint8_t ret[SL_TMC_RECORD_MAX]);
/* All n bytes are the record. SL_E_PROTO: another type, version, flag or width than allowed, a length
 * that does not fit the width, a value that is not finite. */
enum sl_code sl_tmc_record_get(const uint8_t *bytes, size_t n, struct sl_tmc_record *ret,
                               struct sl_err *err);

/* --- sender ----------------------------------------------------------------------- */

enum sl_tmc_verdict {
    SL_TMC_SILENT,    /* not sent */
    SL_TMC_FIRST,     /* sent: nothing was sent since the gate started */
    SL_TMC_CHANGED,   /* sent: moved by more than delta */
    SL_TMC_KEEPALIVE, /* sent: silent for `timeout` steps */
    SL_TMC_REFUSED,   /* not sent: a value is not finite */
};

static inline bool sl_tmc_is_sent(enum sl_tmc_verdict v)
{
    return v == SL_TMC_FIRST || v == SL_TMC_CHANGED || v == SL_TMC_KEEPALIVE;
}

struct sl_tmc_sent {
    uint64_t sent, suppressed, keepalives, refused;
    uint64_t bytes_saved; /* records not sent, without what carries them */
};

struct sl_tmc_gate {
    struct sl_tmc_options options;
    uint32_t client, boot;
    uint32_t sequence; /* of the next record, from 0; wraps */
    bool has_sent;     /* false: the vector last sent is undefined, which no vector equals */
    uint64_t sent_step;
    float last[SL_TMC_WIDTH_MAX];
    struct sl_tmc_sent counters;
};

/* boot: another one after every start of the sender. options: checked (sl_tmc_check), copied. */
void sl_tmc_gate_start(struct sl_tmc_gate *g, const struct sl_tmc_options *options, uint32_t client,
                       uint32_t boot);

/* The vector of this step, values[width]. When it is to be sent, *ret is the record, and the gate takes
 * it as sent, whatever becomes of it. */
enum sl_tmc_verdict sl_tmc_offer(struct sl_tmc_gate *g, uint64_t step, uint32_t round,
                                 const float *values, struct sl_tmc_record *ret);

/* Distance of two vectors under the options' scale and norm. */
double sl_tmc_distance(const struct sl_tmc_options *o, const float *a, const float *b);

/* --- receiver --------------------------------------------------------------------- */

struct sl_tmc_received {
    uint64_t received;   /* taken: newer than what was there */
    uint64_t duplicates; /* the same record again: only its age is renewed */
    uint64_t stale;      /* dropped: older than what was there, or of a boot that is over */
    uint64_t misfits;    /* dropped: no such peer, or another width */
    uint64_t expired;    /* vectors that outlived the window */
    uint64_t stale_uses; /* valid vectors of an earlier step that went into a sum or a view */
};

/* What is known of a peer. */
struct sl_tmc_view {
    bool known;          /* something arrived once */
    bool valid;          /* and is at most `window` steps old */
    uint64_t age;        /* steps since the last arrival; 0 while unknown */
    uint32_t round;      /* of the record */
    const float *values; /* [width], the last ones even when they are not valid; zeros while unknown.
                            Borrowed until the next record of the peer. */
};

struct sl_tmc_peer;

struct sl_tmc_inbox {
    struct sl_tmc_options options;
    uint32_t n_peers;
    uint64_t step;
    struct sl_tmc_peer *peers; /* [n_peers] */
    float *values;             /* [n_peers, width] */
    struct sl_tmc_received counters;
};

/* options: checked, copied. SL_E_LIMIT beyond SL_TMC_PEERS_MAX, SL_E_NOMEM. */
enum sl_code sl_tmc_inbox_init(struct sl_tmc_inbox *b, const struct sl_tmc_options *options,
                               uint32_t n_peers, struct sl_err *err);
void sl_tmc_inbox_deinit(struct sl_tmc_inbox *b); /* NULL and {0} allowed */
/* Forgets all peers, and the step; keeps the counters. */
void sl_tmc_inbox_clear(struct sl_tmc_inbox *b);

/* A record of this step (an earlier number counts as the inbox's own). peer: the row it goes to; who
 * may write to it is for the caller to say, not for the record. Sequence numbers are compared on the
 * circle. A new boot id replaces what was there; the id before it is not taken any more, so that late
 * records of a sender's earlier life change nothing. true: something was stored or renewed. */
bool sl_tmc_receive(struct sl_tmc_inbox *b, uint64_t step, uint32_t peer,
                    const struct sl_tmc_record *r);

/* After the arrivals of a step: what is older than the window is not valid any more. */
void sl_tmc_settle(struct sl_tmc_inbox *b, uint64_t step);

/* As of the last settle (or arrival), peer < n_peers. Counts a stale use. */
struct sl_tmc_view sl_tmc_look(struct sl_tmc_inbox *b, uint32_t peer);
/* Only whether it is valid; counts nothing. */
bool sl_tmc_is_valid(const struct sl_tmc_inbox *b, uint32_t peer);

/* SUM: the paper's text; MEAN: by n_peers - 1 however many are valid, the authors' code. */
enum sl_tmc_combine { SL_TMC_SUM, SL_TMC_MEAN };

/* ret[width] = sum over valid peers but `except` in the order of their numbers, so that the order of
 * arrival changes no bit. Nothing valid: exactly zeros. */
void sl_tmc_combine(struct sl_tmc_inbox *b, enum sl_tmc_combine how, uint32_t except, float *ret);

#endif
