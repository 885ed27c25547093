/* The functions of a subject (subject.h), wherever they were found. */
#ifndef RSM_SUBJECT_FUNCTIONS_H
#define RSM_SUBJECT_FUNCTIONS_H

#include "subject.h"

struct rsm_subject_functions {
    void (*add)(unsigned counter, uint64_t n);
    uint64_t (*sum)(unsigned counter);
    int (*path)(void);        /* null: the subject does not tell */
    unsigned (*aborts)(void); /* likewise */
};

#endif
