/* Prints what the library's indirect function returns: what its resolver saw. */
#include <stdio.h>

int crafted_call(void);

int main(void)
{
    return printf("%d\n", crafted_call()) < 0;
}
