/* The scenario `life`: one process from its first relocation to its last destructor. */
#define _GNU_SOURCE
#include "host.h"
#include "probe_libc.h"
#include "steps.h"

void rsm_executable_indirect(void);

int main(void)
{
#ifndef RSM_STATIC
    static const struct rsm_step carried[] = {
#ifndef RSM_ABSENT_ifunc
        {RSM_STAGE_ifunc_library, rsm_carry_library_ifunc},
        {RSM_STAGE_ifunc_preload, rsm_carry_preload_ifunc},
#endif
        {RSM_STAGE_preload_interposed_function, rsm_carry_interposed_function},
    };
#endif
    rsm_main_begins();
    RSM_PROBE_LIBC(executable, main);
#ifndef RSM_ABSENT_ifunc
    rsm_executable_indirect();
#endif
#ifndef RSM_STATIC
    RSM_TAKE_STEPS(carried);
    rsm_carry_opened_object();
#ifndef RSM_ABSENT_dlmopen
    rsm_carry_new_namespace();
#endif
#endif
    rsm_exit_handlers_register();
    rsm_reach(RSM_REACHED_EXIT);
    return 0;
}
