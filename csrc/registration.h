/* What a library that follows glibc's manual ("Restartable Sequences") concludes about this thread: the area lies at
 * the thread pointer + __rseq_offset, it is in use if __rseq_size > 0, and registered if its cpu_id is not negative. */
#ifndef RSM_REGISTRATION_H
#define RSM_REGISTRATION_H

#include "libc_symbols.h"

struct rsm_registration {
    uint64_t thread_pointer;
    struct rsm_libc_symbols symbols;
    struct rsm_rseq_area *area; /* null where there is no thread pointer or libc has no __rseq_offset */
};

static inline void rsm_registration_find(struct rsm_registration *registration)
{
    registration->thread_pointer = rsm_thread_pointer();
    rsm_libc_symbols_find(&registration->symbols);
    const struct rsm_libc_symbols *symbols = &registration->symbols;
    registration->area = 0;
    if (registration->thread_pointer && symbols->rseq_offset && symbols->rseq_size && *symbols->rseq_offset)
        registration->area = (struct rsm_rseq_area *)(registration->thread_pointer + (uint64_t)*symbols->rseq_offset);
}

static inline uint32_t rsm_area_cpu_id(const struct rsm_rseq_area *area)
{
    return *(const volatile uint32_t *)&area->cpu_id;
}

/* U of the classes. */
static inline int rsm_user_registered(const struct rsm_registration *registration)
{
    return registration->area && *registration->symbols.rseq_size > 0 &&
           (int32_t)rsm_area_cpu_id(registration->area) >= 0;
}

#endif
