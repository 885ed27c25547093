/* resolver-before-relocation: a resolver that reads a word that needs relocation. The good twin only asks whether the
 * word is relocated already: it compares it with what relocation will make of it, which is no use of the word. */
#include "resolver.h"

static void *const volatile word = (void *)&word;

static crafted_type crafted_resolver(void)
{
#ifdef BAD
    crafted_seen = word != 0;
#else
    crafted_seen = word == (void *)&word;
#endif
    return crafted_implementation;
}
