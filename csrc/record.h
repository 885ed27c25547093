/* The log's layout for C, with what cffi and the compiler must agree on asserted beside it. */
#ifndef RSM_RECORD_H
#define RSM_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "record_layout.h"

_Static_assert(sizeof(struct rsm_stage_slot) == 16, "no padding");
_Static_assert(offsetof(struct rsm_record, thread_pointer) == 32, "no padding before the 64-bit fields");
_Static_assert(offsetof(struct rsm_record, oracle_address) % 8 == 0, "no padding before the 64-bit fields");
_Static_assert(sizeof(struct rsm_record) == 176, "no padding at the end; a change of layout is deliberate");
_Static_assert(offsetof(struct rsm_log, cpu) % 64 == 0, "per-CPU counters start on a cache line");
_Static_assert(sizeof(struct rsm_counters) % 64 == 0, "no two CPUs share a cache line");

#endif
