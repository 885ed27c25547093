/* Two words that are compared and exchanged at once, a pointer and a tag; the exchange is in arch/<machine>_pair.h. */
#ifndef RSM_PAIR_H
#define RSM_PAIR_H

#include <stdint.h>

struct rsm_pair {
    uint64_t low;
    uint64_t high;
} __attribute__((aligned(16)));

/* The halves are loaded one after the other. Where they do not belong together, an exchange fails. */
static inline struct rsm_pair rsm_pair_load(const struct rsm_pair *pair)
{
    struct rsm_pair loaded;
    loaded.high = __atomic_load_n(&pair->high, __ATOMIC_ACQUIRE);
    loaded.low = __atomic_load_n(&pair->low, __ATOMIC_ACQUIRE);
    return loaded;
}

#endif
