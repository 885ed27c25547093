/* Broken: it believes cpu_id. In the child of a vfork() the area is the parent's and still tells the parent's CPU,
 * while the kernel watches nothing: the critical section protects nothing there. */
#include "split.h"

EXPORT void rsm_subject_add(unsigned which, uint64_t n)
{
    struct rsm_registration registration;
    rsm_registration_find(&registration);
    for (int tries = 0; tries < TRIES && rsm_user_registered(&registration); tries++) {
        uint32_t cpu = *(volatile uint32_t *)&registration.area->cpu_id_start;
        if (rsm_section_add(registration.area, cpu, &split[cpu][which], n) == RSM_COMMIT_DONE)
            return;
    }
    __atomic_fetch_add(&shared[which], n, __ATOMIC_RELAXED);
}
