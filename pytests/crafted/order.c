/* Functions that run before and after main() and say so, by every way that ELF has, listed here in no order at all.
 * DT_INIT and DT_FINI are crafted_dt_init and crafted_dt_fini where the linker is told -init and -fini. */
#ifdef HOSTED
#include <stdio.h>
#define SAY() puts(__func__)
#else
static volatile int said;
#define SAY() (said++)
#endif

#define FUNCTION(name, ...)                                                                                            \
    __attribute__((used, __VA_ARGS__)) void name(void); /* gcc forgets a priority that only the definition has */      \
    void name(void)                                                                                                    \
    {                                                                                                                  \
        SAY();                                                                                                         \
    }

FUNCTION(crafted_constructor, constructor)
FUNCTION(crafted_destructor, destructor)
FUNCTION(crafted_constructor_300, constructor(300))
FUNCTION(crafted_destructor_300, destructor(300))
FUNCTION(crafted_constructor_200, constructor(200))
FUNCTION(crafted_destructor_200, destructor(200))
FUNCTION(crafted_dt_init, noinline)
FUNCTION(crafted_dt_fini, noinline)

#ifdef PROGRAM
FUNCTION(crafted_preinit, noinline)
__attribute__((used, section(".preinit_array"))) static void (*const listed)(void) = crafted_preinit;

#include "start.h"
START
{
    return 0;
}
#endif
