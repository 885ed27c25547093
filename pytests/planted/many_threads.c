/* many_threads COUNT [leave | lock]: starts threads and waits for them; or leaves before they have begun; or lets the
 * last of them lock itself in, all alone, and waits. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "refuse.h"

static pthread_t threads[1024];
static pthread_barrier_t all;

static void *meet(void *unused)
{
    pthread_barrier_wait(&all);
    return unused;
}

static void *stay(void *last)
{
    if (last && refuse_rseq(EPERM) == 0 && write(1, "ready\n", 6) == 6)
        pause();
    pause();
    return NULL;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 0;
    int leave = argc > 2 && strcmp(argv[2], "leave") == 0, lock = argc > 2 && strcmp(argv[2], "lock") == 0;
    if (count < 1 || count > 1024 || pthread_barrier_init(&all, NULL, (unsigned)count) != 0)
        return 3;
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, lock ? stay : meet, lock && i == count - 1 ? threads : NULL) != 0)
            return 3;
    if (leave)
        return 0;
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
