/* signal.ifunc_resolver. Fired by a signal that an IFUNC resolver of the executable sends to itself. Raw system calls
 * only, to install the handler, to send and to return: libc's sigaction() may not be bound yet and there may be no
 * thread pointer. */
#include "indirect.h"
#include "raw_signal.h"

static void handler(int signal)
{
    (void)signal;
    RSM_PROBE(signal, ifunc_resolver);
}

static rsm_function *resolve(void)
{
    if (rsm_stage_enabled(RSM_STAGE_signal_ifunc_resolver))
        rsm_raw_signal_to_self(handler);
    return rsm_indirect_target;
}

void rsm_signal_indirect(void) __attribute__((ifunc("resolve")));
