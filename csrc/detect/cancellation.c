/* Exits with 0 if a thread can be cancelled while it waits in a system call; qemu-user crashes then. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stddef.h>
#include <unistd.h>

#define MOMENT 50000 /* microseconds, until the thread waits */

static int cleaned;

static void clean(void *argument)
{
    *(int *)argument = 1;
}

static void *wait_for_ever(void *argument)
{
    pthread_cleanup_push(clean, argument);
    for (;;)
        pause();
    pthread_cleanup_pop(0);
    return argument;
}

int main(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_ever, &cleaned) != 0)
        return 1;
    usleep(MOMENT);
    pthread_cancel(thread);
    pthread_join(thread, NULL);
    return !cleaned;
}
