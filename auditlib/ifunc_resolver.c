/* audit.ifunc_resolver. Fired when the dynamic linker relocates the audit library, before the library's constructor:
 * the pointer below needs the resolved address. Raw system calls only: the library's own GOT may not be filled yet. */
#include "indirect.h"

static rsm_function *resolve(void)
{
    RSM_PROBE(audit, ifunc_resolver);
    return rsm_indirect_target;
}

RSM_EXPORT void rsm_audit_indirect(void) __attribute__((ifunc("resolve")));

RSM_EXPORT rsm_function *rsm_audit_indirect_address = rsm_audit_indirect;
