/* The functions of a subject (subject.h) that the stages call. */
#ifndef RSM_SUBJECT_FUNCTIONS_H
#define RSM_SUBJECT_FUNCTIONS_H

#include "subject.h"

struct rsm_subject_functions {
    void (*add)(unsigned counter, uint64_t n);
    uint64_t (*sum)(unsigned counter);
    int (*path)(void);        /* null: the subject does not tell */
    unsigned (*aborts)(void); /* likewise */
};

/* Where the object that this code is linked into is loaded: its ELF header, by the linker's own name for it. */
extern const char rsm_own_base[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));

#endif
