/* Broken: a plain add. Two threads on two CPUs read the same sum, and one of them writes over what the other wrote. */
#include "subject.h"

static uint64_t counter[RSM_SUBJECT_COUNTERS];

__attribute__((visibility("default"))) void rsm_subject_add(unsigned which, uint64_t n)
{
    counter[which] += n;
}

__attribute__((visibility("default"))) uint64_t rsm_subject_sum(unsigned which)
{
    return counter[which];
}
