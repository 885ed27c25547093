/* The scenario `audited`: a program with a call, a dlopen() and a dlclose() for an audit library to see. Fires no stage
 * itself. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

#include "host.h"

int rsm_audited_function(int value);

int main(void)
{
    rsm_main_begins();
    if (rsm_audited_function(1) != 2)
        return 1;
    void *object = dlopen("rsm_audited_plugin.so", RTLD_LAZY);
    if (object)
        dlclose(object);
    else
        fprintf(stderr, "%s\n", dlerror());
    rsm_reach(RSM_REACHED_EXIT);
    return 0;
}
