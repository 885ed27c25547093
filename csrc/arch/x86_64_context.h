/* Where a signal interrupted its thread, for x86-64. */
#ifndef RSM_ARCH_X86_64_CONTEXT_H
#define RSM_ARCH_X86_64_CONTEXT_H

#include <stdint.h>
#include <ucontext.h>

/* `context` is what a handler that was installed with SA_SIGINFO gets as its third argument. */
static inline uint64_t rsm_interrupted_at(const ucontext_t *context)
{
    return (uint64_t)context->uc_mcontext.gregs[REG_RIP];
}

#endif
