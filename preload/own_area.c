/* For `exec --environment self-registered`: registers an rseq area of its own in a constructor and in each thread that
 * pthread_create() starts, as a program with librseq does. Fires no stage. libc may be used. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "rseq/own_area.h"

typedef int create_function(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

struct start_routine {
    void *(*start)(void *);
    void *argument;
};

__attribute__((constructor)) static void begin(void)
{
    rsm_own_area_register(); /* refused where libc registered, because its tunable is not known or ignored */
}

static void *begin_thread(void *argument)
{
    struct start_routine routine = *(struct start_routine *)argument;
    free(argument);
    rsm_own_area_register();
    return routine.start(routine.argument);
}

__attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                                          void *(*start)(void *), void *argument)
{
    create_function *next = (create_function *)dlsym(RTLD_NEXT, "pthread_create");
    struct start_routine *routine = malloc(sizeof(*routine));
    if (!next || !routine) {
        free(routine);
        return next ? EAGAIN : ENOSYS;
    }
    *routine = (struct start_routine){start, argument};
    int error = next(thread, attributes, begin_thread, routine);
    if (error)
        free(routine);
    return error;
}
