/* A new thread gets the stack and TLS block of an ended one. */
#include <pthread.h>
#include <stddef.h>

static void *start(void *argument)
{
    return argument;
}

int main(void)
{
    pthread_t first, second;
    if (pthread_create(&first, NULL, start, NULL) != 0)
        return 1;
    pthread_join(first, NULL);
    if (pthread_create(&second, NULL, start, NULL) != 0)
        return 1;
    pthread_join(second, NULL);
    return !pthread_equal(first, second);
}
