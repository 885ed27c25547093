/* ifunc.after_exec. Fired like ifunc.executable, in the image that execve() starts: the kernel has dropped the first
 * image's registration, and in a static program the second has no thread pointer yet. Raw system calls only. */
#include "indirect.h"

static rsm_function *resolve(void)
{
    RSM_PROBE(ifunc, after_exec);
    return rsm_indirect_target;
}

void rsm_after_exec_indirect(void) __attribute__((ifunc("resolve")));
