/* The built-in subject `atomic`: no rseq, one shared counter for all. It is what a fallback is at its simplest. */
#include "subject.h"
#include "visible.h"

static uint64_t shared[RSM_SUBJECT_COUNTERS];

RSM_VISIBLE void rsm_subject_add(unsigned counter, uint64_t n)
{
    __atomic_fetch_add(&shared[counter], n, __ATOMIC_RELAXED);
}

RSM_VISIBLE uint64_t rsm_subject_sum(unsigned counter)
{
    return __atomic_load_n(&shared[counter], __ATOMIC_RELAXED);
}

RSM_VISIBLE const char *rsm_subject_name(void)
{
    return "atomic";
}

RSM_VISIBLE int rsm_subject_path(void)
{
    return RSM_SUBJECT_FALLBACK;
}

RSM_VISIBLE unsigned rsm_subject_aborts(void)
{
    return 0;
}
