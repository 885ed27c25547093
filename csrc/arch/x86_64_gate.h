/* The gate at which a thread of `interrupted` waits for its driver, and what a signal interrupted, for x86-64. */
#ifndef RSM_ARCH_X86_64_GATE_H
#define RSM_ARCH_X86_64_GATE_H

#include <stdint.h>
#include <ucontext.h>

#include "verify/mailbox.h"

/* Stops for the tracer, which knows the gate by the magic number. Without a tracer this would kill. */
static inline void rsm_gate(uint32_t role)
{
    __asm__ volatile("int3" : : "a"(RSM_GATE_MAGIC), "D"((uint64_t)role) : "memory");
}

static inline uint64_t rsm_interrupted_at(const ucontext_t *context)
{
    return (uint64_t)context->uc_mcontext.gregs[REG_RIP];
}

#endif
