/* For programs without libc (zig has no static one): where the process starts, and what compilers call for TLS. With
 * libc, HOSTED, it is main() that starts. These programs for other machines are inspected, never run. */
#ifndef CRAFTED_START_H
#define CRAFTED_START_H

#ifdef HOSTED
#define START int main(void)
#else
#define START __attribute__((used)) int _start(void)
#endif

#if !defined(HOSTED) && defined(__arm__)
__attribute__((naked, weak, used)) void __aeabi_read_tp(void)
{
    __asm__("mrc p15, 0, r0, c13, c0, 3\n\tbx lr");
}
#endif

#if !defined(HOSTED)
__attribute__((weak, used)) void *__tls_get_addr(void *index)
{
    return index;
}
__attribute__((weak, used, noreturn)) void __stack_chk_fail(void)
{
    for (;;)
        ;
}
#endif

#endif
