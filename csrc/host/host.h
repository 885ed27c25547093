/* What host programs share. A host is the program of a scenario: it brings about its stages, one after the other, and
 * only those that are enabled, so that a stage that crashes can be left out. */
#ifndef RSM_HOST_H
#define RSM_HOST_H

#include <stddef.h>

#include "log.h"
#include "probe.h"
#include "registry.h"

/* Reports how far the program is: each host does, first in main() and before it ends, so that a record shows whether it
 * was taken before, between or after these two points. */
static inline void rsm_reach(enum rsm_reached reached)
{
    struct rsm_log *log = rsm_log_map();
    if (!log)
        return;
    __atomic_store_n(&log->reached, reached, __ATOMIC_RELAXED);
    rsm_log_unmap(log);
}

/* Each host calls the first when main() begins, and the second at the start of each thread: they do what of the
 * environment a program has to do itself (enum rsm_host_environment). The third is the first without rsm_reach().
 */
void rsm_main_begins(void);
void rsm_thread_begins(void);
void rsm_environment_enter(void);

struct rsm_step {
    enum rsm_stage stage;
    void (*bring_about)(void);
};

static inline void rsm_take_steps(const struct rsm_step *step, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (rsm_warm(step[i].stage))
            step[i].bring_about();
}

#define RSM_TAKE_STEPS(steps) rsm_take_steps(steps, sizeof(steps) / sizeof((steps)[0]))

#endif
