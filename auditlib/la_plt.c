/* audit.la_pltenter and audit.la_pltexit. Fired around a call through the PLT. They are in an audit library of their
 * own, because an audit library that has them makes the dynamic linker bind lazily even what was linked with -z now
 * (glibc elf/dl-reloc.c, _dl_relocate_object). libc of the audit namespace may be used. */
#define _GNU_SOURCE
#include <link.h>
#include <string.h>

#include "audit.h"
#include "probe_libc.h"

RSM_AUDIT_HOOK Elf64_Addr la_x86_64_gnu_pltenter(Elf64_Sym *symbol, unsigned int index, uintptr_t *from, uintptr_t *to,
                                                 La_x86_64_regs *registers, unsigned int *flags, const char *name,
                                                 long int *frame_size)
{
    (void)index;
    (void)from;
    (void)to;
    (void)registers;
    (void)flags;
    if (strcmp(name, RSM_AUDITED_FUNCTION) == 0)
        RSM_PROBE_LIBC(audit, la_pltenter);
    *frame_size = 64; /* bytes of stack arguments to copy; not negative: asks for la_pltexit */
    return symbol->st_value;
}

RSM_AUDIT_HOOK unsigned int la_x86_64_gnu_pltexit(Elf64_Sym *symbol, unsigned int index, uintptr_t *from, uintptr_t *to,
                                                  const La_x86_64_regs *registers, La_x86_64_retval *result,
                                                  const char *name)
{
    (void)symbol;
    (void)index;
    (void)from;
    (void)to;
    (void)registers;
    (void)result;
    if (strcmp(name, RSM_AUDITED_FUNCTION) == 0)
        RSM_PROBE_LIBC(audit, la_pltexit);
    return 0;
}
