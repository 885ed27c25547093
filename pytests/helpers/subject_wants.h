/* The subject that a helper of the tests uses, and what it wants of it. */
#ifndef SUBJECT_WANTS_H
#define SUBJECT_WANTS_H

#include <stdio.h>
#include <unistd.h>

#include "verify/loaded_subject.h"

static struct loaded_subject subject;

/* Ends the program with 1, and says what was not as it should be, unless the two are equal. */
#define WANT(got, want)                                                                                                \
    do {                                                                                                               \
        unsigned long long got_ = (unsigned long long)(got), want_ = (unsigned long long)(want);                       \
        if (got_ != want_) {                                                                                           \
            printf("line %d: " #got ": got %llu, want %llu\n", __LINE__, got_, want_);                                 \
            fflush(stdout);                                                                                            \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

/* `object` is a handle of dlopen()'s, or RTLD_DEFAULT. */
static inline void find(void *object)
{
    WANT(loaded_subject_find(&subject, object), 1);
}

#endif
