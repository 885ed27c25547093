/* __cxa_thread_atexit_impl(), by which C++ registers the destructor of a thread_local object. */
#include <pthread.h>
#include <stddef.h>

extern void *__dso_handle;
int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *dso);

static int answer = 1;

static void destructor(void *object)
{
    (void)object;
    answer = 0;
}

static void *start(void *argument)
{
    __cxa_thread_atexit_impl(destructor, NULL, &__dso_handle);
    return argument;
}

int main(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, start, NULL) == 0)
        pthread_join(thread, NULL);
    return answer;
}
