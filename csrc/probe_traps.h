/* What the probe asks of its tracer: each request is a breakpoint that the tracer knows by its magic number
 * (record_layout.h). The tracer serves it, suppresses the SIGTRAP and restarts the thread. */
#ifndef RSM_PROBE_TRAPS_H
#define RSM_PROBE_TRAPS_H

#include "arch.h"
#include "record.h"

/* Asks for PTRACE_GET_RSEQ_CONFIGURATION, to be written into the record of `stage`. */
static inline void rsm_stop_for_tracer(uint32_t stage)
{
    rsm_trap(RSM_TRAP_MAGIC, stage);
}

/* Asks to be single-stepped from here to rsm_step_end(); `base` is where the subject is loaded. */
static inline void rsm_step_begin(uint32_t stage, uint64_t base)
{
    rsm_trap_with(RSM_TRAP_STEP, stage, base);
}

static inline void rsm_step_end(uint32_t stage)
{
    rsm_trap(RSM_TRAP_STEP_END, stage);
}

/* Asks a tracer that single-steps everything not to single-step this thread up to rsm_free_end(). */
static inline void rsm_free_begin(uint32_t stage)
{
    rsm_trap(RSM_TRAP_FREE, stage);
}

static inline void rsm_free_end(uint32_t stage)
{
    rsm_trap(RSM_TRAP_FREE_END, stage);
}

#endif
