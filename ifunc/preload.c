/* ifunc.preload. Fired like ifunc.library, with the function coming from a preloaded object that interposes the needed
 * library's ordinary one. Raw system calls only. */
#include "indirect.h"

static rsm_function *resolve(void)
{
    RSM_PROBE(ifunc, preload);
    return rsm_indirect_target;
}

RSM_EXPORT void rsm_preload_indirect(void) __attribute__((ifunc("resolve")));
