/* Lets a subject of verify's work at a stage, thousands of times, and compares its sums with the ledger: its own
 * counter's at once, those of all stages that this process has been through as well. The first and the last add are
 * single-stepped by the tracer, which sees whether a critical section committed: where the kernel protects nothing,
 * that alone is a defect, and no race needs to be seen. */
#ifndef RSM_TRIAL_H
#define RSM_TRIAL_H

#include "ledger.h"
#ifdef RSM_STATIC
#include "subject_linked.h"
#else
#include "subject_object.h"
#endif

static inline void rsm_trial_progress(struct rsm_trial *trial, enum rsm_trial_progress progress)
{
    __atomic_store_n(&trial->progress, progress, __ATOMIC_RELEASE);
}

static inline void rsm_trial_add(struct rsm_log *log, uint32_t stage, const struct rsm_subject_functions *subject,
                                 struct rsm_book *book)
{
    struct rsm_trial *trial = &log->trial[stage];
    for (uint32_t i = 0; i < log->adds; i++) {
        int stepped = log->traced && (i == 0 || (i == log->adds - 1 && !trial->stepped_limited));
        if (stepped)
            rsm_step_begin(stage, trial->base);
        subject->add(stage, 1);
        if (stepped)
            rsm_step_end(stage);
        book->added[stage]++;
        trial->attempted++;
        int path = subject->path ? subject->path() : RSM_SUBJECT_UNKNOWN;
        trial->fast += path == RSM_SUBJECT_FAST;
        trial->fallback += path == RSM_SUBJECT_FALLBACK;
        trial->aborts += subject->aborts ? subject->aborts() : 0;
    }
}

/* All that was added in this process, at whatever stage, has to be there still. */
static inline void rsm_trial_check(struct rsm_trial *trial, const struct rsm_subject_functions *subject,
                                   const struct rsm_book *book)
{
    trial->wrong = RSM_STAGE_MAX;
    for (uint32_t stage = 0; stage < RSM_STAGE_MAX; stage++) {
        uint64_t sum = subject->sum(stage);
        trial->books += book->added[stage] != 0;
        if (sum != book->added[stage] && trial->wrong == RSM_STAGE_MAX) {
            trial->wrong = stage;
            trial->want = book->added[stage];
            trial->got = sum;
        }
    }
}

static inline void rsm_trial(struct rsm_log *log, uint32_t stage)
{
    struct rsm_trial *trial = &log->trial[stage];
    struct rsm_subject_functions subject = {0, 0, 0, 0};
    struct rsm_ledger *ledger = rsm_ledger_open();
    rsm_subject_find(log, trial, &subject);
    trial->usable = trial->base && subject.add && subject.sum && ledger;
    rsm_trial_progress(trial, RSM_TRIAL_SEARCHED);
    struct rsm_book *book = trial->usable ? rsm_ledger_book(ledger, trial->base) : 0;
    if (!book)
        return;
    rsm_trial_progress(trial, RSM_TRIAL_SUM_BEFORE);
    uint64_t before = subject.sum(stage);
    rsm_trial_progress(trial, RSM_TRIAL_ADD);
    rsm_trial_add(log, stage, &subject, book);
    rsm_trial_progress(trial, RSM_TRIAL_SUM_AFTER);
    trial->committed = subject.sum(stage) - before;
    rsm_trial_progress(trial, RSM_TRIAL_OTHER_SUMS);
    rsm_trial_check(trial, &subject, book);
    rsm_trial_progress(trial, RSM_TRIAL_DONE);
}

/* Lets the subject work a little in the thread that is about to bring a stage about, so that what it remembers of that
 * thread is there when the stage's code runs: a child of vfork() finds it. Counted in the ledger as the stage's. */
static inline void rsm_warm(uint32_t stage)
{
    enum { WARM_ADDS = 3 };
    struct rsm_log *log = rsm_log_map();
    if (!log)
        return;
    struct rsm_trial unused = {0};
    struct rsm_subject_functions subject = {0, 0, 0, 0};
    struct rsm_ledger *ledger = log->source == RSM_SOURCE_INLINE ? 0 : rsm_ledger_open();
    if (ledger)
        rsm_subject_find(log, &unused, &subject);
    struct rsm_book *book = ledger && unused.base ? rsm_ledger_book(ledger, unused.base) : 0;
    for (int i = 0; book && subject.add && i < WARM_ADDS; i++) {
        subject.add(stage, 1);
        book->added[stage]++;
    }
    rsm_log_unmap(log);
}

#endif
