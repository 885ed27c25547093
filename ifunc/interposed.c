/* ifunc.interposed. Fired while the dynamic linker relocates the needed library, which holds a pointer to the function
 * that this preloaded object interposes. The preloaded object comes later in the order of relocation, so its own
 * relocations are not done: raw system calls only, and no pointer of its own is to be trusted. */
#include "indirect.h"

static rsm_function *resolve(void)
{
    RSM_PROBE(ifunc, interposed);
    return rsm_indirect_target;
}

RSM_EXPORT void rsm_interposed_indirect(void) __attribute__((ifunc("resolve")));
