/* Prints what rseq(2) answers to a senseless request (kernel_query.h) here, and once more after execve(): not every
 * emulator follows a program into its next image. */
#include <stdio.h>
#include <unistd.h>

#include "kernel_query.h"

int main(int argc, char **argv)
{
    char again[] = "again";
    char *arguments[] = {argv[0], again, NULL};
    printf("%d\n", rsm_query_control());
    fflush(stdout);
    if (argc == 1)
        execv(argv[0], arguments);
    return argc == 1;
}
