/* Two thread-local variables, one with an initial value, reached by the model MODEL. crafted_access() stores to the
 * initialised one three times. The segment: 24 bytes of image, and a multiple of 32 or more behind it. */
#ifdef PROGRAM
#include "start.h"
#endif

#ifndef MODEL
#define MODEL "global-dynamic"
#endif
#ifdef HIDDEN
#define SCOPE static
#else
#define SCOPE
#endif

SCOPE __thread volatile int crafted_initialised[6] __attribute__((aligned(32), tls_model(MODEL))) = {1, 2, 3, 4, 5, 6};
SCOPE __thread volatile int crafted_zeroed[10] __attribute__((aligned(32), tls_model(MODEL)));

int crafted_access(void);
__attribute__((noinline)) int crafted_access(void)
{
    crafted_initialised[1] = 1;
    crafted_initialised[2] = 2;
    crafted_initialised[3] = 3;
    return 0;
}

#ifdef HIDDEN
int crafted_other(void);
__attribute__((noinline)) int crafted_other(void)
{
    return crafted_initialised[0] + crafted_zeroed[1]; /* both, so that local-dynamic has something to share */
}
#endif

#ifdef PROGRAM
START
{
    return crafted_access();
}
#endif
