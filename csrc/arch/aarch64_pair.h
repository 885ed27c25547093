/* Compare-and-exchange of a pair, aarch64: an exclusive load and store, which every CPU has (the single instruction,
 * caspal, is ARMv8.1's). In assembly, because compilers call a library for it. */
#ifndef RSM_ARCH_AARCH64_PAIR_H
#define RSM_ARCH_AARCH64_PAIR_H

#include "pair.h"

/* Returns whether *pair was `old` and is `new` now. A thread that reads the new pair sees what this one wrote before.
 *
 *     retry:     low, high = *pair, exclusively, with acquire semantics
 *                if (low != old.low || high != old.high) goto differs
 *                *pair = new if nothing else has written to it since, with release semantics; else goto retry
 *                goto done, failed = 0
 *     differs:   give the exclusive access up, failed = 1
 *     done:
 *
 * In %[pair] memory, the halves of `old` and `new` in registers; clobbers low, high, the flags. */
static inline int rsm_pair_exchange(struct rsm_pair *pair, struct rsm_pair old, struct rsm_pair new)
{
    uint64_t low, high;
    uint32_t failed;
    __asm__ volatile(
        ".Lrsm_retry%=: ldaxp %[low], %[high], %[pair]\n\t"
        "mov %w[failed], #1\n\t"
        "cmp %[low], %[old_low]\n\t"
        "ccmp %[high], %[old_high], #0, eq\n\t"
        "b.ne .Lrsm_differs%=\n\t"
        "stlxp %w[failed], %[new_low], %[new_high], %[pair]\n\t"
        "cbnz %w[failed], .Lrsm_retry%=\n\t"
        "b .Lrsm_done%=\n"
        ".Lrsm_differs%=: clrex\n"
        ".Lrsm_done%=:"
        : [pair] "+Q"(*pair), [low] "=&r"(low), [high] "=&r"(high), [failed] "=&r"(failed)
        : [old_low] "r"(old.low), [old_high] "r"(old.high), [new_low] "r"(new.low), [new_high] "r"(new.high)
        : "memory", "cc");
    return !failed;
}

#endif
