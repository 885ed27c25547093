/* The built-in subject `split`: split counters (split.h), for any place in a process's life. */
#include "split.h"
#include "told.h"

/* What is told of a fast path is written only where it is another thing than the last time. */
RSM_VISIBLE void rsm_subject_add(unsigned counter, uint64_t n)
{
    const struct rsm_thread *thread = rsm_confirmed();
    if (!thread) {
        rsm_split_counters_add_unconfirmed(counter, n);
        return;
    }
    enum rsm_commit commit = rsm_split_counters_try(thread, counter, n);
    if (__builtin_expect(commit != RSM_COMMIT_DONE, 0))
        rsm_split_counters_add_carefully(counter, n, commit == RSM_COMMIT_ABORTED);
    else if (__builtin_expect(thread->told.path != RSM_SUBJECT_FAST || thread->told.aborts, 0))
        rsm_note(RSM_SUBJECT_FAST, 0);
}

RSM_VISIBLE uint64_t rsm_subject_sum(unsigned counter)
{
    return rsm_split_counters_sum(counter);
}

RSM_VISIBLE const char *rsm_subject_name(void)
{
    return "split";
}
