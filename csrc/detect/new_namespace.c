/* Exits with 0 if a library can be loaded into a new namespace, with a libc of its own, which needs static TLS. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

int main(void)
{
    if (dlmopen(LM_ID_NEWLM, "libm.so.6", RTLD_LAZY))
        return 0;
    fprintf(stderr, "%s\n", dlerror());
    return 1;
}
