/* on_exit(). */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

static void handler(int status, void *argument)
{
    (void)status;
    (void)argument;
    _exit(0);
}

int main(void)
{
    on_exit(handler, NULL);
    return 1;
}
