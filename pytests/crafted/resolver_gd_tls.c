/* resolver-gd-tls: a resolver whose thread-local access is a call: of __tls_get_addr, or through a TLS descriptor. That
 * may allocate memory for the block, with a malloc that is not relocated yet, and goes through the PLT itself. */
#include "resolver.h"

#ifdef BAD
__thread volatile int crafted_variable = 42;
#else
static volatile int crafted_variable = 42;
#endif

static crafted_type crafted_resolver(void)
{
#ifdef ON_SOME_PATH
    static volatile int wanted;
    if (wanted)
#endif
        crafted_seen = crafted_variable;
    return crafted_implementation;
}
