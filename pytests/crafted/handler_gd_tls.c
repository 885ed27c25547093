/* handler-gd-tls: a signal handler that reaches a thread-local variable of a library by __tls_get_addr. The first
 * access in a thread allocates the block with malloc (elf/dl-tls.c, tls_get_addr_tail), which is not safe in a handler:
 * where the signal came during malloc, the thread waits for itself. */
#include <signal.h>
#include <stddef.h>

#ifdef BAD
__thread volatile int crafted_variable;
#else
static __thread volatile int crafted_variable __attribute__((tls_model("initial-exec")));
#endif

static void crafted_handler(int number)
{
    crafted_variable = number;
}

void crafted_install(void);
void crafted_install(void)
{
#ifdef BY_SIGNAL
    signal(SIGUSR1, crafted_handler);
#else
    struct sigaction action;
    action.sa_handler = crafted_handler;
    action.sa_flags = 0;
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
#endif
}
