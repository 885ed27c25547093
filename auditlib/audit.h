/* The names that the audit library's files share. */
#ifndef RSM_AUDIT_H
#define RSM_AUDIT_H

#define RSM_AUDIT_HOOK __attribute__((visibility("default")))

/* The function of csrc/library/audited.c whose binding and calls are recorded: others are bound and called at other
 * times. */
#define RSM_AUDITED_FUNCTION "rsm_audited_function"

/* The object whose closing is recorded, csrc/library/audited_plugin.c. */
#define RSM_AUDITED_PLUGIN "rsm_audited_plugin.so"

#endif
