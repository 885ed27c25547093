/* ifunc.library. Fired when the executable's call of a needed library's indirect function is bound: at the first call
 * if that is lazy, else while the executable is relocated. Raw system calls only: a resolver cannot know which of the
 * two it is. */
#include "indirect.h"

static rsm_function *resolve(void)
{
    RSM_PROBE(ifunc, library);
    return rsm_indirect_target;
}

RSM_EXPORT void rsm_library_indirect(void) __attribute__((ifunc("resolve")));
