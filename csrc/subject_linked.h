/* The built-in subjects in a static program: compiled into it under names of their own (subject/subjects.cmake), chosen
 * by number. Addresses are formed by code and not kept in a table, because that would need relocations. */
#ifndef RSM_SUBJECT_LINKED_H
#define RSM_SUBJECT_LINKED_H

#include "record.h"
#include "subject_functions.h"

#define RSM_LINKED_DECLARE(name)                                                                                       \
    void rsm_##name##_subject_add(unsigned counter, uint64_t n) __attribute__((visibility("hidden")));                 \
    uint64_t rsm_##name##_subject_sum(unsigned counter) __attribute__((visibility("hidden")));                         \
    int rsm_##name##_subject_path(void) __attribute__((visibility("hidden")));                                         \
    unsigned rsm_##name##_subject_aborts(void) __attribute__((visibility("hidden")))

#define RSM_LINKED_TAKE(name)                                                                                          \
    do {                                                                                                               \
        functions->add = rsm_##name##_subject_add;                                                                     \
        functions->sum = rsm_##name##_subject_sum;                                                                     \
        functions->path = rsm_##name##_subject_path;                                                                   \
        functions->aborts = rsm_##name##_subject_aborts;                                                               \
    } while (0)

RSM_LINKED_DECLARE(split);
RSM_LINKED_DECLARE(atomic);
RSM_LINKED_DECLARE(list);

static inline void rsm_subject_find(struct rsm_log *log, struct rsm_trial *trial,
                                    struct rsm_subject_functions *functions)
{
    trial->copies = 1;
    trial->base = (uint64_t)rsm_own_base;
    trial->relocated = 2;
    if (log->linked == RSM_LINKED_SPLIT)
        RSM_LINKED_TAKE(split);
    else if (log->linked == RSM_LINKED_ATOMIC)
        RSM_LINKED_TAKE(atomic);
    else
        RSM_LINKED_TAKE(list);
}

#endif
