/* makecontext() and swapcontext(). */
#define _GNU_SOURCE
#include <stddef.h>
#include <ucontext.h>

static ucontext_t coroutine, resumer;
static char stack[256 * 1024];
static int answer = 1;

static void body(void)
{
    answer = 0;
    swapcontext(&coroutine, &resumer);
}

int main(void)
{
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = sizeof(stack);
    makecontext(&coroutine, body, 0);
    swapcontext(&resumer, &coroutine);
    return answer;
}
