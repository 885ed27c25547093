/* Asks the kernel for the thread pointer, from a resolver, without using it: the program's exit status is 1 where it is
 * set by then, 0 where it is not (x86-64, arch_prctl(ARCH_GET_FS)). */
#include "resolver.h"

static crafted_type crafted_resolver(void)
{
    unsigned long thread_pointer = 0;
    long result = 158;
    __asm__ volatile("syscall" : "+a"(result) : "D"(0x1003L), "S"(&thread_pointer) : "rcx", "r11", "memory");
    crafted_seen = thread_pointer != 0;
    return crafted_implementation;
}
