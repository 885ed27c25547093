/* Makes an indirect function (STT_GNU_IFUNC) whose resolver is one call of the probe.
 *
 * GCC takes the resolver's name as a string, so it must be known where the attribute stands. */
#ifndef RSM_INDIRECT_H
#define RSM_INDIRECT_H

#include "probe.h"

typedef void rsm_function(void);

static inline void rsm_indirect_target(void)
{
}

#define RSM_EXPORT __attribute__((visibility("default")))

#endif
