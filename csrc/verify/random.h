/* Random numbers that a signal handler can draw, too, from a state of its own: xorshift64 (Marsaglia 2003). */
#ifndef RSM_VERIFY_RANDOM_H
#define RSM_VERIFY_RANDOM_H

#include <stdint.h>

/* *state is not 0. */
static inline uint32_t random_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return (uint32_t)(x >> 32);
}

#endif
