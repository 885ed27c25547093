/* resolver-stack-protector: a resolver that was built with a stack protector (-fstack-protector-all). It reads the
 * canary, which lies at the thread pointer (x86, ppc64le, s390x), not set yet in a static program, or in a variable
 * behind the GOT (aarch64, arm, riscv64), not relocated yet. */
#include "resolver.h"

#ifndef BAD
__attribute__((no_stack_protector))
#endif
static crafted_type crafted_resolver(void)
{
    char buffer[32] = {1};
    __asm__ volatile("" : : "r"(buffer) : "memory"); /* so that the buffer stays */
    crafted_seen = buffer[0];
    return crafted_implementation;
}
