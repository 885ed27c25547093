/* An experiment about this libc's static start code, not a stage: is the thread pointer set when IRELATIVE relocations
 * are applied? Exit status 0 yes, 1 no, 2 the resolver did not run. The timeline model takes the order from here. */
#include "arch.h"

static int answer = 2;

static void target(void)
{
}

static void (*resolve(void))(void)
{
    answer = rsm_thread_pointer() == 0;
    return target;
}

void rsm_indirect(void) __attribute__((ifunc("resolve")));

int main(void)
{
    rsm_indirect();
    return answer;
}
