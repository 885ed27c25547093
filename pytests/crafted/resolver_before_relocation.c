/* resolver-before-relocation: a resolver that calls a function of another object. The loader calls the resolver while
 * it still relocates, and the word in the GOT that the call goes through need not be relocated by then: where it is
 * not, the process jumps to a wrong address. Here crafted_pointer makes sure of that: a word of data is relocated
 * before any of the PLT, bound lazily or now (elf/dynamic-link.h, _ELF_DYNAMIC_DO_RELOC: DT_RELA, then DT_JMPREL). */
#include "resolver.h"

crafted_type crafted_pointer = crafted_function;

#ifdef BAD
extern int getpid(void);
#else
static int getpid(void)
{
    return 42;
}
#endif

static crafted_type crafted_resolver(void)
{
    crafted_seen = getpid() != 0;
    return crafted_implementation;
}
