/* late_filter [wait]: a program that locks itself in after its start and then starts a thread, or waits before it does.
 */
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "refuse.h"

static void *nothing(void *unused)
{
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    (void)argv;
    if (refuse_rseq(EPERM))
        return 3;
    if (argc > 1 && write(1, "ready\n", 6) == 6)
        pause();
    pthread_create(&thread, NULL, nothing, NULL);
    return pthread_join(thread, NULL);
}
