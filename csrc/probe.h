/* The one probe. Every stage only arranges to be called and then calls it:
 *
 *     RSM_PROBE(carrier, hook)         where libc may not be called
 *     RSM_PROBE_LIBC(carrier, hook)    where it may; observes sched_getcpu() and the libc version too
 *
 * Which of the two is right is checked against the registry when the stage is compiled. The probe itself is probe.c,
 * which is linked into every object that has a stage. */
#ifndef RSM_PROBE_H
#define RSM_PROBE_H

#include "log.h"
#include "registry.h"

struct rsm_stage_context {     /* what only the stage's code knows */
    int (*sched_getcpu)(void); /* libc's, null where libc may not be called */
    const char *(*libc_version)(void);
    uint32_t section; /* enum rsm_section */
};

/* Takes the record of `stage` unless it was taken before, or is not enabled. */
void rsm_probe(uint32_t stage, struct rsm_stage_context context) __attribute__((visibility("hidden")));

/* Lets the subject add a few times in the thread that is about to bring a stage about, so that what it remembers of
 * that thread is there when the stage's code runs, in a child of vfork() for example. Does nothing in `run`, or if the
 * stage is not enabled. Returns whether it is enabled. */
int rsm_warm(uint32_t stage) __attribute__((visibility("hidden")));

/* Writes the stage's number into the section rsm_stages of the object file, where the tests read which stages it holds.
 */
#define RSM_DECLARE_STAGE(carrier, hook)                                                                               \
    static const uint32_t rsm_declared_##carrier##_##hook __attribute__((section("rsm_stages"), used)) =               \
        RSM_STAGE_##carrier##_##hook

#define RSM_PROBE(carrier, hook)                                                                                       \
    do {                                                                                                               \
        _Static_assert((int)RSM_STAGE_MAY_##carrier##_##hook != RSM_MAY_LIBC,                                          \
                       "libc may be used here: RSM_PROBE_LIBC");                                                       \
        RSM_DECLARE_STAGE(carrier, hook);                                                                              \
        rsm_probe(RSM_STAGE_##carrier##_##hook, (struct rsm_stage_context){0, 0, RSM_SECTION_NONE});                   \
    } while (0)

/* Needs probe_libc.h, for gnu_get_libc_version() and sched_getcpu(): stages that may not call libc do not include it.
 */
#define RSM_PROBE_LIBC_SECTION(carrier, hook, section)                                                                 \
    do {                                                                                                               \
        _Static_assert((int)RSM_STAGE_MAY_##carrier##_##hook == RSM_MAY_LIBC, "libc may not be used here: RSM_PROBE"); \
        RSM_DECLARE_STAGE(carrier, hook);                                                                              \
        rsm_probe(RSM_STAGE_##carrier##_##hook,                                                                        \
                  (struct rsm_stage_context){rsm_libc_sched_getcpu, rsm_libc_version, section});                       \
    } while (0)

#define RSM_PROBE_LIBC(carrier, hook) RSM_PROBE_LIBC_SECTION(carrier, hook, RSM_SECTION_NONE)

#endif
