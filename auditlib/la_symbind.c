/* audit.la_symbind. Fired when the executable's reference to a library function is bound: at its first call if that is
 * lazy, when the executable is relocated if not. libc of the audit namespace may be used. */
#define _GNU_SOURCE
#include <link.h>
#include <string.h>

#include "audit.h"
#include "probe_libc.h"

RSM_AUDIT_HOOK uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned int index, uintptr_t *from, uintptr_t *to,
                                      unsigned int *flags, const char *name)
{
    (void)index;
    (void)from;
    (void)to;
    (void)flags; /* left at 0: asks for la_pltenter and la_pltexit */
    if (strcmp(name, RSM_AUDITED_FUNCTION) == 0)
        RSM_PROBE_LIBC(audit, la_symbind);
    return symbol->st_value;
}
