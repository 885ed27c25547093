/* ifunc.executable. Fired by an IRELATIVE relocation of the executable: the dynamic linker applies it while it
 * relocates the executable, even where binding is lazy; in a static program the start code applies it, before TLS is
 * set up. Raw system calls only, and no thread pointer in a static program: a stack protector would fault. */
#include "indirect.h"

static rsm_function *resolve(void)
{
    RSM_PROBE(ifunc, executable);
    return rsm_indirect_target;
}

void rsm_executable_indirect(void) __attribute__((ifunc("resolve")));
