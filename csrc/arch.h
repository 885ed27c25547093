/* Chooses the machine. A new one needs arch/<machine>.h and arch/<machine>_section.h and a line here. */
#ifndef RSM_ARCH_H
#define RSM_ARCH_H

#if defined(__x86_64__) && !defined(__ILP32__)
#include "arch/x86_64.h"
#include "arch/x86_64_section.h"
#else
#error "rseq-matrix: the probes are written for x86-64 (LP64) only"
#endif

#endif
