/* The scenario `signals`: handlers, in every place where one can come. */
#include "host.h"
#include "steps.h"

void rsm_signal_indirect(void);

int main(void)
{
    static const struct rsm_step steps[] = {
#ifndef RSM_ABSENT_ifunc
        {RSM_STAGE_signal_ifunc_resolver, rsm_signal_indirect}, /* its resolver has long run; this only refers to it */
#endif
        {RSM_STAGE_signal_main, rsm_signal_main},
        {RSM_STAGE_signal_alternate_stack, rsm_signal_alternate_stack},
        {RSM_STAGE_signal_thread, rsm_signal_thread},
        {RSM_STAGE_signal_key_destructor, rsm_signal_key_destructor},
        {RSM_STAGE_signal_critical_section, rsm_signal_critical_section},
    };
    rsm_main_begins();
    RSM_TAKE_STEPS(steps);
    return 0;
}
