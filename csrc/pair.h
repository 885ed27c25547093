/* Two words that are compared and exchanged at once: a pointer and a tag. */
#ifndef RSM_PAIR_H
#define RSM_PAIR_H

#include <stdint.h>

struct rsm_pair {
    uint64_t low;
    uint64_t high;
} __attribute__((aligned(16)));

#endif
