/* Calls the subject that `verify` tests at a stage: adds thousands of times, and compares its sums with the ledger, for
 * this stage's counter and for those of all stages that this process has passed. The first and the last add are
 * single-stepped by the tracer, which sees whether a critical section committed: where the kernel protects nothing,
 * that alone is a defect, and no race needs to be seen. Where the tracer single-steps everything, every add is
 * single-stepped, and what is done around them is not: to find the subject and to compare all sums takes a million
 * instructions. */
#ifndef RSM_TRIAL_H
#define RSM_TRIAL_H

#include "ledger.h"
#include "log.h"
#include "probe_traps.h"
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
        int stepped = log->stepped || (log->traced && (i == 0 || (i == log->adds - 1 && !trial->stepped_limited)));
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

/* Compares the sums of all stages with what was added at them in this process. */
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

/* Finds the subject, and its book in the ledger; null where it cannot be used. */
static inline struct rsm_book *rsm_trial_open(struct rsm_log *log, struct rsm_trial *trial,
                                              struct rsm_subject_functions *subject)
{
    struct rsm_ledger *ledger = rsm_ledger_open();
    rsm_subject_find(log, trial, subject);
    trial->usable = trial->base && subject->add && subject->sum && ledger;
    return trial->usable ? rsm_ledger_book(ledger, trial->base) : 0;
}

static inline void rsm_trial_run(struct rsm_log *log, uint32_t stage)
{
    struct rsm_trial *trial = &log->trial[stage];
    struct rsm_subject_functions subject = {0, 0, 0, 0};
    struct rsm_book *book = rsm_trial_open(log, trial, &subject);
    rsm_trial_progress(trial, RSM_TRIAL_SEARCHED);
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

static inline void rsm_trial(struct rsm_log *log, uint32_t stage)
{
    if (log->stepped) {
        __atomic_fetch_add(&log->stopping, 1, __ATOMIC_RELAXED);
        rsm_free_begin(stage);
        __atomic_fetch_sub(&log->stopping, 1, __ATOMIC_RELAXED);
    }
    rsm_trial_run(log, stage);
    if (log->stepped)
        rsm_free_end(stage);
}

/* What rsm_warm() does. Counted in the ledger as the stage's. */
static inline void rsm_trial_warm(struct rsm_log *log, uint32_t stage)
{
    enum { WARM_ADDS = 3 };
    struct rsm_trial unused = {0};
    struct rsm_subject_functions subject = {0, 0, 0, 0};
    struct rsm_book *book = rsm_trial_open(log, &unused, &subject);
    for (int i = 0; book && i < WARM_ADDS; i++) {
        subject.add(stage, 1);
        book->added[stage]++;
    }
}

#endif
