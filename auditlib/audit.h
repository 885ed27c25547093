/* What the audit library's files share. */
#ifndef RSM_AUDIT_H
#define RSM_AUDIT_H

#define RSM_AUDIT_HOOK __attribute__((visibility("default")))

/* The function of csrc/library/audited.c whose binding and calls are recorded: others come at uninteresting times. */
#define RSM_AUDITED_FUNCTION "rsm_audited_function"

#endif
