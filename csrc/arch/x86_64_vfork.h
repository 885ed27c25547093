/* vfork() for x86-64, between rsm_before_vfork() and, in the parent, rsm_after_vfork(). The child returns first, on its
 * parent's stack, and would overwrite the return address there: it is kept in a register, which the kernel keeps for
 * both. */
#ifndef RSM_ARCH_X86_64_VFORK_H
#define RSM_ARCH_X86_64_VFORK_H

__asm__(".pushsection .text\n\t"
        ".globl vfork\n\t"
        ".type vfork, @function\n"
        "vfork:\n\t"
        "subq $8, %rsp\n\t"
        "call rsm_before_vfork\n\t"
        "addq $8, %rsp\n\t"
        "popq %rdi\n\t"
        "movl $58, %eax\n\t"
        "syscall\n\t"
        "pushq %rdi\n\t"
        "testq %rax, %rax\n\t"
        "je 1f\n\t"
        "movq %rax, %rdi\n\t"
        "jmp rsm_after_vfork\n\t"
        "1: ret\n\t"
        ".size vfork, . - vfork\n\t"
        ".popsection");

#endif
