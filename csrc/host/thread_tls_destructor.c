/* thread.tls_destructor. Fired at the end of a thread by the destructor of a C++ thread_local object, which compilers
 * register with
 * __cxa_thread_atexit_impl() (Itanium C++ ABI and glibc 2.18). libc may be used. */
#define _GNU_SOURCE
#include <pthread.h>

#include "host.h"
#include "probe_libc.h"
#include "steps.h"

extern void *__dso_handle; /* names the object that the destructor belongs to, for dlclose() */
int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *dso);

static void destructor(void *object)
{
    (void)object;
    RSM_PROBE_LIBC(thread, tls_destructor);
}

static void *start(void *argument)
{
    rsm_thread_begins();
    __cxa_thread_atexit_impl(destructor, NULL, &__dso_handle);
    return argument;
}

void rsm_thread_tls_destructor(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, start, NULL) == 0)
        pthread_join(thread, NULL);
}
