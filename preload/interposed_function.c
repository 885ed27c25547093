/* preload.interposed_function. Fired when the program calls pthread_create(), in the creating thread, before the thread
 * exists. libc may be used. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

#include "probe_libc.h"

typedef int create_function(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

__attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                                          void *(*start)(void *), void *argument)
{
    create_function *next = (create_function *)dlsym(RTLD_NEXT, "pthread_create");
    RSM_PROBE_LIBC(preload, interposed_function);
    return next ? next(thread, attributes, start, argument) : ENOSYS;
}
