/* vfork() for x86-64, between rsm_before_vfork() and, in the parent, rsm_after_vfork(). The child returns first, on its
 * parent's stack, and would overwrite the return address there: it is kept in a register, which the kernel keeps for
 * both.
 *
 * And clone(), whose child calls start(argument), kept on its new stack, and ends with what that returns.
 *
 * Neither knows of shadow stacks, so an object with them is compiled with -fcf-protection=none. */
#ifndef RSM_ARCH_X86_64_VFORK_H
#define RSM_ARCH_X86_64_VFORK_H

__asm__(".pushsection .text\n\t"
        ".globl vfork, __vfork\n\t"
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
        ".set __vfork, vfork\n\t"
        ".popsection");

__asm__(".pushsection .text\n\t"
        ".globl rsm_clone\n\t"
        ".hidden rsm_clone\n\t"
        ".type rsm_clone, @function\n"
        "rsm_clone:\n\t"
        "andq $-16, %rsi\n\t"
        "subq $16, %rsi\n\t"
        "movq %rcx, 8(%rsi)\n\t" /* argument */
        "movq %rdi, (%rsi)\n\t"  /* start */
        "movl %edx, %edi\n\t"    /* flags */
        "movq %r8, %rdx\n\t"     /* parent_tid */
        "movq 8(%rsp), %r10\n\t" /* child_tid */
        "movq %r9, %r8\n\t"      /* tls */
        "movl $56, %eax\n\t"
        "syscall\n\t"
        "testq %rax, %rax\n\t"
        "je 1f\n\t"
        "ret\n"
        "1: xorl %ebp, %ebp\n\t" /* the outermost frame */
        "popq %rax\n\t"
        "popq %rdi\n\t"
        "callq *%rax\n\t"
        "movl %eax, %edi\n\t"
        "movl $60, %eax\n\t"
        "syscall\n\t"
        ".size rsm_clone, . - rsm_clone\n\t"
        ".popsection");

#endif
