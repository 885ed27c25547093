/* ifunc.dlopen. Fired while dlopen() relocates the object: the pointer below needs the resolved address. Raw system
 * calls only: the object's own GOT may not be filled yet. */
#include "indirect.h"

static rsm_function *resolve(void)
{
    RSM_PROBE(ifunc, dlopen);
    return rsm_indirect_target;
}

RSM_EXPORT void rsm_dlopen_indirect(void) __attribute__((ifunc("resolve")));

RSM_EXPORT rsm_function *rsm_dlopen_indirect_address = rsm_dlopen_indirect;
