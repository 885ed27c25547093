/* A preloaded library that locks the process in when it is loaded: libc has registered the main thread by then. */
#include <errno.h>

#include "refuse.h"

__attribute__((constructor)) static void lock_in(void)
{
    refuse_rseq(EPERM);
}
