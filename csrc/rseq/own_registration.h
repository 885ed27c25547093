/* Asks whether an rseq area is registered for this thread, and unregisters the one that libc registered. */
#ifndef RSM_RSEQ_OWN_REGISTRATION_H
#define RSM_RSEQ_OWN_REGISTRATION_H

#include <pthread.h>
#include <signal.h>

#include "kernel_query.h"
#include "registration.h"

/* Whether any area is registered. Signals are blocked, so that no handler runs with the trial's area registered. */
static inline int kernel_has_area(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = rsm_trial_registration();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == RSM_EINVAL;
}

struct unregistered_area { /* length 0: none was registered */
    struct rsm_rseq_area *area;
    uint32_t length;
};

static inline struct unregistered_area unregister_area(void)
{
    struct rsm_registration registration;
    int error;
    rsm_registration_find(&registration);
    uint32_t length = rsm_query_area(registration.area, &error);
    if (length)
        rsm_rseq(registration.area, length, RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE);
    return (struct unregistered_area){registration.area, length};
}

#endif
