/* For `exec --environment self-registered`: registers an rseq area of its own in a constructor and in each thread that
 * pthread_create() starts, as a program with librseq does. Fires no stage. libc may be used. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "rseq/own_area.h"

typedef int create_function(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

struct beginning {
    void *(*start)(void *);
    void *argument;
};

__attribute__((constructor)) static void begin(void)
{
    rsm_own_area_register(); /* refused where libc registered, because its tunable is not known or ignored */
}

static void *begin_thread(void *argument)
{
    struct beginning beginning = *(struct beginning *)argument;
    free(argument);
    rsm_own_area_register();
    return beginning.start(beginning.argument);
}

__attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                                          void *(*start)(void *), void *argument)
{
    create_function *next = (create_function *)dlsym(RTLD_NEXT, "pthread_create");
    struct beginning *beginning = malloc(sizeof(*beginning));
    if (!next || !beginning) {
        free(beginning);
        return next ? EAGAIN : ENOSYS;
    }
    *beginning = (struct beginning){start, argument};
    int error = next(thread, attributes, begin_thread, beginning);
    if (error)
        free(beginning);
    return error;
}
