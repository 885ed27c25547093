/* The functions of the subject that was preloaded into this program, found by name: which of the optional ones there
 * are is the subject's choice (subject.h). */
#ifndef RSM_VERIFY_LOADED_SUBJECT_H
#define RSM_VERIFY_LOADED_SUBJECT_H

#define _GNU_SOURCE
#include <dlfcn.h>

#include "subject.h"

struct loaded_subject { /* the optional ones are null where it has none */
    void (*add)(unsigned counter, uint64_t n);
    uint64_t (*sum)(unsigned counter);
    int (*path)(void);
    unsigned (*aborts)(void);
    int (*enroll)(void); /* rsm_subject_register */
    void (*push)(struct rsm_subject_node *node);
    struct rsm_subject_node *(*pop)(void);
    int (*stack)(void);
};

/* Returns 0 if the two functions that every subject has are not there. */
static inline int loaded_subject_find(struct loaded_subject *subject)
{
    *(void **)&subject->add = dlsym(RTLD_DEFAULT, "rsm_subject_add");
    *(void **)&subject->sum = dlsym(RTLD_DEFAULT, "rsm_subject_sum");
    *(void **)&subject->path = dlsym(RTLD_DEFAULT, "rsm_subject_path");
    *(void **)&subject->aborts = dlsym(RTLD_DEFAULT, "rsm_subject_aborts");
    *(void **)&subject->enroll = dlsym(RTLD_DEFAULT, "rsm_subject_register");
    *(void **)&subject->push = dlsym(RTLD_DEFAULT, "rsm_subject_push");
    *(void **)&subject->pop = dlsym(RTLD_DEFAULT, "rsm_subject_pop");
    *(void **)&subject->stack = dlsym(RTLD_DEFAULT, "rsm_subject_stack");
    return subject->add && subject->sum;
}

static inline int loaded_subject_has_stacks(const struct loaded_subject *subject)
{
    return subject->push && subject->pop;
}

#endif
