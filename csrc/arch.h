/* Includes the headers of the machine that is compiled for. A new one needs arch/<machine>.h, <machine>_section.h,
 * <machine>_pair.h, <machine>_vfork.h and a line here. */
#ifndef RSM_ARCH_H
#define RSM_ARCH_H

#if defined(__x86_64__) && !defined(__ILP32__)
#include "arch/x86_64.h"
#include "arch/x86_64_pair.h"
#include "arch/x86_64_section.h"
#elif defined(__aarch64__) && defined(__LP64__) && defined(__AARCH64EL__)
#include "arch/aarch64.h"
#include "arch/aarch64_pair.h"
#include "arch/aarch64_section.h"
#else
#error "rseq-matrix: the primitives are written for x86-64 and aarch64 (LP64, little-endian), the probes for x86-64"
#endif

#endif
