/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h - the messages inside a session as plain structs, and their bytes.
 * wire.c is the only place that calls generated protobuf code. Layout of a plaintext:
 *
 *     0      2                2+n                     end
 *     | n LE | Message (proto) | attachment bytes ...  |
 *
 * The attachment is the data of a chunk, or the model that travels inside its task. Strings are
 * checked for length and control characters and copied into the struct, with '?' for each byte
 * that is no UTF-8; the attachment is borrowed from the buffer that was unpacked. unpack allocates
 * only through a capped allocator and leaves nothing behind. Thread: any. */
#ifndef SL_COMMON_WIRE_H
#define SL_COMMON_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/accelerator.h"
#include "common/error.h"
#include "common/hash.h"
#include "common/limits.h"

enum sl_msg_kind {
    SL_MSG_REGISTER = 1, /* client -> coordinator */
    SL_MSG_REGISTERED,
    SL_MSG_POLL, /* client -> coordinator */
    SL_MSG_POLL_REPLY,
    SL_MSG_GET_CHUNK, /* client -> coordinator */
    SL_MSG_CHUNK,
    SL_MSG_PUT_CHUNK, /* client -> coordinator */
    SL_MSG_PUT_REPLY,
    SL_MSG_TASK_FAILED, /* client -> coordinator; answered by ACK */
    SL_MSG_EVAL_REPORT, /* client -> coordinator; answered by ACK */
    SL_MSG_ACK,
    SL_MSG_PROBE, /* client -> coordinator; answered by DECISION */
    SL_MSG_DECISION,
};
#define SL_MSG_LAST SL_MSG_DECISION

enum sl_direction { SL_TO_COORDINATOR, SL_TO_CLIENT };

struct sl_blob_ref {
    struct sl_blob_id id;
    uint64_t size; /* bytes, 1..SL_BLOB_BYTES_MAX */
};

enum sl_task_kind {
    SL_TASK_NONE,
    SL_TASK_TRAIN,
    SL_TASK_EVALUATE,
    SL_TASK_CALIBRATE, /* statistics of the features, pushed as an update is */
};

struct sl_task_order {
    enum sl_task_kind kind;
    uint64_t run_id;
    uint32_t round, attempt;
    struct sl_blob_ref plan, model;
    struct sl_blob_ref head; /* the model's fixed values, the same all run; size 0 = none */
    uint64_t deadline_ms; /* from when the message was made */
    bool evaluate;        /* measure the received model on the held-out share first */
};

struct sl_eval_counts {
    uint64_t samples, correct; /* correct <= samples */
    double loss_sum;
};

struct sl_update_meta {
    uint64_t weight;  /* integer weight in the sum */
    uint64_t samples; /* seen in training */
    uint32_t steps;
    double loss_sum, first_loss;
    uint32_t encoding; /* enum sl_encoding */
    bool has_eval;
    struct sl_eval_counts eval;
    struct sl_task_cost cost; /* of the training */
};

/* To whom has probed: WAIT = there is no decision yet, report again. */
enum sl_go { SL_GO_WAIT, SL_GO_ON, SL_GO_STOP };

enum sl_put_status { SL_PUT_MORE, SL_PUT_ACCEPTED, SL_PUT_REJECTED, SL_PUT_STALE };

struct sl_msg {
    enum sl_msg_kind kind;
    union {
        struct {
            char name[SL_WIRE_NAME];
            int32_t index; /* -1 = what the registry says */
            char version[SL_WIRE_TEXT], blas[SL_WIRE_TEXT], hardware[SL_WIRE_TEXT];
            uint64_t own_samples, boot_id;
        } reg;
        struct {
            uint32_t index;
        } registered;
        struct {
            uint64_t boot_id;
            bool has_pending; /* the update named here waits for its round to be settled */
            uint64_t run_id;
            uint32_t round;
            struct sl_blob_ref blob;
        } poll;
        struct {
            bool has_settled;
            uint64_t settled_run;
            uint32_t settled_round;
            bool settled_committed;
            struct sl_task_order task; /* kind NONE: nothing to do */
            uint32_t again_ms;
            bool draining;
        } poll_reply; /* attachment: the model, or nothing */
        struct {
            struct sl_blob_id id;
            uint64_t offset;
            uint32_t length; /* 1..SL_CHUNK_BYTES */
        } get_chunk;
        struct {
            struct sl_blob_id id;
            uint64_t offset, total;
            bool found;
        } chunk; /* attachment: the bytes */
        struct {
            uint64_t run_id;
            uint32_t round, attempt;
            struct sl_blob_ref blob;
            uint64_t offset;
            bool has_meta; /* this chunk ends the transfer */
            struct sl_update_meta meta;
        } put_chunk; /* attachment: the bytes */
        struct {
            enum sl_put_status status;
            uint64_t next_offset;
            char reason[SL_WIRE_REASON];
        } put_reply;
        struct {
            uint64_t run_id;
            uint32_t round, attempt;
            char reason[SL_WIRE_REASON];
        } task_failed;
        struct {
            uint64_t run_id;
            uint32_t round;
            struct sl_eval_counts eval;
        } eval_report;
        struct {
            bool ok;
            char reason[SL_WIRE_REASON];
        } ack;
        struct {
            uint64_t run_id;
            uint32_t round, attempt;
            float loss; /* mean over the probe epochs; finite */
            uint32_t samples; /* of the client, >= 1 */
        } probe;
        struct {
            enum sl_go go;
            uint32_t again_ms; /* WAIT */
            char reason[SL_WIRE_REASON]; /* STOP */
        } decision;
    };
    const uint8_t *attachment; /* borrowed */
    size_t attachment_bytes;   /* 0..SL_CHUNK_BYTES */
};

const char *sl_msg_kind_name(enum sl_msg_kind kind);

/* Bytes that pack writes for *m; never more than SL_WIRE_PLAIN_MAX for a message in its limits. */
size_t sl_wire_size(const struct sl_msg *m);

/* Writes *m to buf. SL_E_LIMIT when it breaks a limit or does not fit `cap`. */
enum sl_code sl_wire_pack(const struct sl_msg *m, uint8_t *buf, size_t cap, size_t *ret_n,
                          struct sl_err *err);

/* Reads one message of a direction. Every field is checked: lengths, ranges, finite numbers,
 * attachment only where it belongs. SL_E_PROTO or SL_E_LIMIT with one line otherwise. */
enum sl_code sl_wire_unpack(const uint8_t *buf, size_t n, enum sl_direction direction,
                            struct sl_msg *ret, struct sl_err *err);

/* Bytes the same message takes on a connection beyond sl_wire_size: envelope and AEAD tag (not
 * NNG's framing). A constant, so bytes_up and bytes_down are equal in simulator and daemons. */
#define SL_WIRE_ENVELOPE_BYTES 49

#endif
