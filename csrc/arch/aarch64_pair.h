/* Compare-and-exchange of a pair, aarch64: an exclusive load and store, which every CPU has (the single instruction,
 * caspal, is ARMv8.1's). In assembly, because compilers call a library for it. */
#ifndef RSM_ARCH_AARCH64_PAIR_H
#define RSM_ARCH_AARCH64_PAIR_H

#include "pair.h"

/* The halves are loaded one after the other. Where they do not belong together, an exchange fails. */
static inline struct rsm_pair rsm_pair_load(const struct rsm_pair *pair)
{
    struct rsm_pair loaded;
    loaded.high = __atomic_load_n(&pair->high, __ATOMIC_ACQUIRE);
    loaded.low = __atomic_load_n(&pair->low, __ATOMIC_ACQUIRE);
    return loaded;
}

/* Returns whether *pair was `old` and is `new` now. What was written before is seen by who reads the new pair. */
static inline int rsm_pair_exchange(struct rsm_pair *pair, struct rsm_pair old, struct rsm_pair new)
{
    uint64_t low, high;
    uint32_t failed;
    __asm__ volatile(
        "1: ldaxp %[low], %[high], %[pair]\n\t"
        "mov %w[failed], #1\n\t"
        "cmp %[low], %[old_low]\n\t"
        "ccmp %[high], %[old_high], #0, eq\n\t"
        "b.ne 2f\n\t"
        "stlxp %w[failed], %[new_low], %[new_high], %[pair]\n\t"
        "cbnz %w[failed], 1b\n\t"
        "b 3f\n"
        "2: clrex\n"
        "3:"
        : [pair] "+Q"(*pair), [low] "=&r"(low), [high] "=&r"(high), [failed] "=&r"(failed)
        : [old_low] "r"(old.low), [old_high] "r"(old.high), [new_low] "r"(new.low), [new_high] "r"(new.high)
        : "memory", "cc");
    return !failed;
}

#endif
