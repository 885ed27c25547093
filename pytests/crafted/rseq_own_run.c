/* Prints what rseq(2) answers to the registration of rseq_own.c: 0, or the negative error number. */
#include <stdio.h>

long crafted_register(void);

int main(void)
{
    return printf("%ld\n", crafted_register()) < 0;
}
