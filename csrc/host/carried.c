/* Runs other objects' code from main() of the executable: by calls, dlopen() and dlmopen(). Fires no stage itself. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>

#include "host.h"
#include "steps.h"

void rsm_library_indirect(void);
void rsm_preload_indirect(void);

#ifndef RSM_ABSENT_ifunc
void rsm_carry_library_ifunc(void)
{
    rsm_library_indirect();
}

void rsm_carry_preload_ifunc(void)
{
    rsm_preload_indirect();
}
#endif

static void *nothing(void *argument)
{
    rsm_thread_begins();
    return argument;
}

void rsm_carry_interposed_function(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, nothing, NULL) == 0)
        pthread_join(thread, NULL);
}

/* The object is found through the executable's run path, $ORIGIN. */
void rsm_carry_opened_object(void)
{
    void *object = dlopen("rsm_opened.so", RTLD_LAZY);
    if (object)
        dlclose(object);
    else
        fprintf(stderr, "%s\n", dlerror());
}

#ifndef RSM_ABSENT_dlmopen
void rsm_carry_new_namespace(void)
{
    if (!dlmopen(LM_ID_NEWLM, "rsm_new_namespace.so", RTLD_LAZY))
        fprintf(stderr, "%s\n", dlerror());
}
#endif
