/* SPDX-License-Identifier: Apache-2.0 */
/* Messages behind decryption: first byte's low bit is the direction, the rest a plaintext. What
 * unpacks must pack to something that unpacks to the same. */
#include <stdlib.h>
#include <string.h>

#include "common/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    enum sl_direction way = (data[0] & 1) ? SL_TO_CLIENT : SL_TO_COORDINATOR;
    struct sl_msg m, again;
    struct sl_err err;
    if (sl_wire_unpack(data + 1, size - 1, way, &m, &err) != SL_OK)
        return 0;
    size_t cap = sl_wire_size(&m), n;
    uint8_t *buf = malloc(cap);
    if (buf == NULL)
        return 0;
    if (sl_wire_pack(&m, buf, cap, &n, &err) != SL_OK || n != cap ||
        sl_wire_unpack(buf, n, way, &again, &err) != SL_OK || again.kind != m.kind ||
        again.attachment_bytes != m.attachment_bytes ||
        strlen(sl_msg_kind_name(again.kind)) == 0)
        abort();
    free(buf);
    return 0;
}
