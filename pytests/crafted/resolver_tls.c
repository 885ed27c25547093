/* resolver-tls, resolver-in-static: a resolver that uses a thread-local variable. In a static program no thread pointer
 * is set yet when resolvers run (glibc before 2.44: csu/libc-start.c, apply_irel before __libc_setup_tls), so that the
 * process dies of SIGSEGV. In a dynamic one the thread pointer is set, but the variable does not have its initial value
 * yet: blocks are initialised after relocation (elf/rtld.c, init_tls, then _dl_allocate_tls_init). */
#include "resolver.h"

#ifndef MODEL
#define MODEL "initial-exec"
#endif

#ifdef BAD
static __thread volatile int variable __attribute__((tls_model(MODEL))) = 42;
#else
static volatile int variable = 42;
#endif

static crafted_type crafted_resolver(void)
{
#ifdef ON_SOME_PATH
    static volatile int wanted;
    if (wanted)
#endif
        crafted_seen = variable;
    return crafted_implementation;
}
