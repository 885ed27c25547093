/* The scenario `allocating`: a program that calls malloc() as early as ordinary code can, from DT_PREINIT_ARRAY, before
 * any constructor has run; where libc knows no DT_PREINIT_ARRAY, from a constructor. Fires no stage itself. */
#include <stdlib.h>

#include "host.h"

__attribute__((constructor)) static void allocate(void)
{
    void *volatile piece = malloc(1);
    free(piece);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(void) = allocate;

int main(void)
{
    rsm_main_begins();
    return 0;
}
