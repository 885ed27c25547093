/* Opens the library of handler_gd_tls.c and prints how often its signal handler makes the thread call malloc. */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>

extern void *__libc_malloc(size_t size);

static volatile int calls;

void *malloc(size_t size)
{
    calls++;
    return __libc_malloc(size);
}

static void *interrupted(void *unused)
{
    calls = 0;
    raise(SIGUSR1);
    printf("%d\n", calls);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    void *library = argc < 2 ? NULL : dlopen(argv[1], RTLD_NOW);
    void (*install)(void) = library ? (void (*)(void))dlsym(library, "crafted_install") : NULL;
    if (!install)
        return 1;
    setvbuf(stdout, NULL, _IONBF, 0);
    install();
    pthread_create(&thread, NULL, interrupted, NULL);
    return pthread_join(thread, NULL);
}
