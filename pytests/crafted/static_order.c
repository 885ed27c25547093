/* resolver-in-static: whether a static program's resolvers have a thread pointer depends on the code that starts it:
 * glibc before 2.44 calls the resolvers first, later ones set up TLS first (csu/libc-start.c). This is such code in
 * miniature, together with a resolver that uses a thread-local variable. It is inspected, never run. */
#define BAD
#include "resolver_tls.c"

__attribute__((noinline, used)) void __libc_setup_tls(void)
{
    __asm__ volatile("");
}

void __libc_start_main(void (**resolvers)(void));
__attribute__((used)) void __libc_start_main(void (**resolvers)(void))
{
#ifdef THREAD_POINTER_FIRST
    __libc_setup_tls();
    (*resolvers)();
#else
    (*resolvers)();
    __libc_setup_tls();
#endif
    __asm__ volatile(""); /* so that the last call is no jump */
}
