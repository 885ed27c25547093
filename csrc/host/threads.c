/* The scenario `threads`: POSIX threads, from start to the last key destructor, one after the other. */
#include "host.h"
#include "steps.h"

int main(void)
{
    static const struct rsm_step steps[] = {
        {RSM_STAGE_thread_start, rsm_thread_start},
        {RSM_STAGE_thread_recycled_stack, rsm_thread_recycled_stack},
        {RSM_STAGE_thread_cleanup_handler, rsm_thread_cleanup_handler},
        {RSM_STAGE_thread_cancelled, rsm_thread_cancelled},
#ifndef RSM_ABSENT_thread_atexit
        {RSM_STAGE_thread_tls_destructor, rsm_thread_tls_destructor},
#endif
        {RSM_STAGE_thread_detached, rsm_thread_detached},
    };
    rsm_main_begins();
    RSM_TAKE_STEPS(steps);
    rsm_thread_key_destructor(); /* two stages: each round checks whether it was requested */
    return 0;
}
