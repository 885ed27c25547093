/* Cancellation that runs cleanup handlers. glibc unwinds with libgcc_s.so.1, which it opens when it is needed, and ends
 * the process if that is not there or does not fit. */
#include <pthread.h>
#include <stddef.h>
#include <unistd.h>

static int answer = 1;

static void handler(void *argument)
{
    (void)argument;
    answer = 0;
}

static void *start(void *argument)
{
    pthread_cleanup_push(handler, NULL);
    pause();
    pthread_cleanup_pop(0);
    return argument;
}

int main(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, start, NULL) != 0)
        return 1;
    pthread_cancel(thread);
    pthread_join(thread, NULL);
    return answer;
}
