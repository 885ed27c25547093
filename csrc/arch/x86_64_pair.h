/* Compare-and-exchange of a pair, x86-64: cmpxchg16b, which every CPU has that glibc's x86-64-v2 means. In assembly,
 * because compilers call a library for it. */
#ifndef RSM_ARCH_X86_64_PAIR_H
#define RSM_ARCH_X86_64_PAIR_H

#include "pair.h"

/* Returns whether *pair was `old` and is `new` now. A full barrier.
 *
 *     if (*pair == rdx:rax) *pair = rcx:rbx, done = 1
 *     else                  rdx:rax = *pair, done = 0
 *
 * In `old` in rax and rdx, `new` in rbx and rcx; clobbers rax, rdx, the flags. */
static inline int rsm_pair_exchange(struct rsm_pair *pair, struct rsm_pair old, struct rsm_pair new)
{
    uint8_t done;
    __asm__ volatile("lock cmpxchg16b %[pair]\n\t"
                     "sete %[done]"
                     : [pair] "+m"(*pair), [done] "=q"(done), "+a"(old.low), "+d"(old.high)
                     : "b"(new.low), "c"(new.high)
                     : "memory", "cc");
    return done;
}

#endif
