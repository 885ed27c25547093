/* The scenario `children`: other tasks than POSIX threads, and code that changes threads. */
#include "host.h"
#include "steps.h"

int main(void)
{
    static const struct rsm_step steps[] = {
        {RSM_STAGE_process_fork_child, rsm_process_fork_child},
        {RSM_STAGE_process_atfork_child, rsm_process_atfork_child},
        {RSM_STAGE_process_vfork_child, rsm_process_vfork_child},
        {RSM_STAGE_process_clone_vm_child, rsm_process_clone_vm_child},
        {RSM_STAGE_process_clone_thread, rsm_process_clone_thread},
        {RSM_STAGE_process_clone_thread_zeroed, rsm_process_clone_thread_zeroed},
#ifndef RSM_ABSENT_makecontext
        {RSM_STAGE_process_coroutine, rsm_process_coroutine},
#endif
    };
    rsm_main_begins();
    RSM_TAKE_STEPS(steps);
    return 0;
}
