/* executable.preinit_array. Fired from DT_PREINIT_ARRAY, which only an executable may have: before the constructors of
 * its libraries, but after their relocation. libc may be used. */
#define _GNU_SOURCE
#include "probe_libc.h"

static void preinit(void)
{
    RSM_PROBE_LIBC(executable, preinit_array);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(void) = preinit;
