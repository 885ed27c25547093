/* Exits with 0 if clone(CLONE_VM) starts a child that is no thread; valgrind and qemu-user refuse it. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>

static uint8_t stack[64 * 1024] __attribute__((aligned(16)));

static int start(void *argument)
{
    *(int *)argument = 1;
    return 0;
}

int main(void)
{
    int ran = 0;
    pid_t child = clone(start, stack + sizeof(stack), CLONE_VM | SIGCHLD, &ran);
    if (child > 0)
        waitpid(child, NULL, 0);
    return !ran;
}
