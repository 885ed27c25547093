/* The scenario `audited`: a program that gives an audit library something to see. Fires no stage itself. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

int rsm_audited_function(int value);

int main(void)
{
    void *object;
    if (rsm_audited_function(1) != 2)
        return 1;
    object = dlopen("rsm_audited_plugin.so", RTLD_LAZY);
    if (object)
        dlclose(object);
    else
        fprintf(stderr, "%s\n", dlerror());
    return 0;
}
