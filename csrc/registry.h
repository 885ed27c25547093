/* The stage registry as C sees it: one enumerator a stage, and constants that a stage's code is checked against when
 * it is compiled. The table itself is in registry.c. */
#ifndef RSM_REGISTRY_H
#define RSM_REGISTRY_H

#include "registry_layout.h"

enum rsm_stage {
#define STAGE(carrier, hook, phase, links, may, firing, fires) RSM_STAGE_##carrier##_##hook,
#include "stages.def"
#undef STAGE
    RSM_STAGE_COUNT
};

/* RSM_STAGE_MAY_<carrier>_<hook>: what may be used there, as a constant for static assertions. */
enum rsm_stage_may {
#define STAGE(carrier, hook, phase, links, may, firing, fires) RSM_STAGE_MAY_##carrier##_##hook = RSM_MAY_##may,
#include "stages.def"
#undef STAGE
};

#endif
