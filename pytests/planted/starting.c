/* starting storm: starts one thread after another; starting again: executes itself again and again. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static void *nothing(void *unused)
{
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (argc < 3 && write(1, "ready\n", 6) != 6)
        return 1;
    if (argc < 2 || strcmp(argv[1], "storm") != 0) {
        char *const again[] = {argv[0], "again", "again", NULL};
        usleep(2000);
        execv("/proc/self/exe", again);
        return 1;
    }
    for (;;)
        if (pthread_create(&thread, NULL, nothing, NULL) == 0)
            pthread_detach(thread);
}
