/* One critical section with its tables, sound unless a parameter says otherwise: without parameters this is the good
 * twin for every cs-* rule. test_lint.py says which parameters break what.
 *
 * VERSION FLAGS START LENGTH ABORT   the fields of the descriptor (linux/rseq.h, struct rseq_cs)
 * OFF_ALIGNMENT                      bytes by which the descriptor misses its alignment
 * SIGNATURE_WORD                     the word before the abort handler
 * INSIDE                             more instructions for the section
 * POINTERS, EXITS                    entries of __rseq_cs_ptr_array and __rseq_exit_point_array
 * NO_DESCRIPTOR NO_POINTERS NO_EXITS no such table at all
 * SECOND_DESCRIPTOR                  one more, which only POINTERS could name
 * OPEN_END                           the code ends with the section
 *
 * long crafted_section(struct rseq *area, volatile uint32_t *release): 0 if the section ran on, 1 if it was aborted.
 */
#include "machine.S"

#ifndef VERSION
#define VERSION 0
#endif
#ifndef FLAGS
#define FLAGS 0
#endif
#ifndef START
#define START .Lstart
#endif
#ifndef LENGTH
#define LENGTH .Lpost_commit - .Lstart
#endif
#ifndef ABORT
#define ABORT .Labort
#endif
#ifndef SIGNATURE_WORD
#define SIGNATURE_WORD SIGNATURE
#endif
#ifndef INSIDE
#define INSIDE
#endif
#ifndef POINTERS
#define POINTERS POINTER(.Ldescriptor)
#endif
#ifndef EXITS
#define EXITS POINTER(START); POINTER(.Lexit)
#endif

        .text
        .balign 16
        .type callee, %function
callee: RETURN
        .size callee, . - callee

        .type crafted_abort, %function
crafted_abort:
        SIGNATURE_OPENING
        .long SIGNATURE_WORD
.Labort:
        ABORTED
        RETURN
        .size crafted_abort, . - crafted_abort

        .type second, %function
second: CONTINUED
.Lsecond_end:
        RETURN
        .size second, . - second

        .globl crafted_section
        .type crafted_section, %function
crafted_section:
        ENTER
.Lstart:
        SPIN
        INSIDE
.Lpost_commit:
#ifndef OPEN_END
        CONTINUED
        RETURN
.Lexit: CONTINUED
        RETURN
.Lelsewhere:
        CONTINUED
        RETURN
.Lteardown:
        CONTINUED
        JUMP(.Lexit)
#endif
        .size crafted_section, . - crafted_section

        .data
        .balign 32
.Ldata: .skip 32
        SIGNATURE_OPENING
        .long SIGNATURE
.Labort_in_data:
        .skip 32

#ifndef NO_DESCRIPTOR
        .section __rseq_cs, "aw"
#endif
        .balign 32
#ifdef OFF_ALIGNMENT
        .skip OFF_ALIGNMENT
#endif
.Ldescriptor:
        .long VERSION, FLAGS
        POINTER(START)
        POINTER(LENGTH)
        POINTER(ABORT)
#ifdef SECOND_DESCRIPTOR
.Lsecond_descriptor:
        .long 0, 0
        POINTER(second)
        POINTER(.Lsecond_end - second)
        POINTER(.Labort)
#endif
#ifndef NO_POINTERS
        .section __rseq_cs_ptr_array, "aw"
        POINTERS
#endif
#ifndef NO_EXITS
        .section __rseq_exit_point_array, "aw"
        EXITS
#endif
        .section .note.GNU-stack, "", %progbits
