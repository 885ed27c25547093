/* An experiment, not a stage: is the function of a program that was linked with -z now bound when the program is
 * relocated, though an audit library watches, or at its first call? The audit library, audit_binding_library.c, prints
 * "bound" and this "main"; the order is the answer. The timeline model takes it from here. */
#include <unistd.h>

int main(void)
{
    if (write(1, "main ", 5) != 5)
        return 1;
    return getppid() < 0; /* the function whose binding is awaited; nothing else calls it */
}
