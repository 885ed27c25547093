/* Broken: it locks. A signal handler that interrupts an add and adds itself waits for the lock for ever. */
#include "arch.h"
#include "subject.h"

static uint64_t counter[RSM_SUBJECT_COUNTERS];
static uint32_t lock;

__attribute__((visibility("default"))) void rsm_subject_add(unsigned which, uint64_t n)
{
    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE))
        __builtin_ia32_pause();
    counter[which] += n;
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
}

__attribute__((visibility("default"))) uint64_t rsm_subject_sum(unsigned which)
{
    return __atomic_load_n(&counter[which], __ATOMIC_RELAXED);
}
