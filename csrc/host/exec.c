/* The scenario `exec`: a program that puts another one, exec_image, in its place. Fires no stage itself. */
#include <stddef.h>
#include <unistd.h>

#include "host.h"

int main(void)
{
    static char name[] = "./exec_image"; /* beside it: the working directory is the build's */
    char *arguments[] = {name, NULL};
    rsm_environment_enter(); /* it is the other image's main() that says how far the program has come */
    execv(name, arguments);
    return 1;
}
