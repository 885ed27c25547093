/* The mailbox's layout for C, with what cffi and the compiler must agree on asserted beside it. */
#ifndef RSM_VERIFY_MAILBOX_H
#define RSM_VERIFY_MAILBOX_H

#include <stddef.h>
#include <stdint.h>

#include "verify/mailbox_layout.h"

_Static_assert(offsetof(struct rsm_box, value) % 8 == 0, "no padding before the 64-bit fields");
_Static_assert(sizeof(struct rsm_box) == 4 * 4 + 3 * 8 + RSM_VALUES_MAX * 8 + 8 + 4 + RSM_CODE_SIZE + 4, "one tail");
_Static_assert(offsetof(struct rsm_mailbox, box) == 8 * 8, "no padding before the boxes");

#endif
