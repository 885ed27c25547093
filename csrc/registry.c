/* The compiled stage table. Python reads it through cffi; it is not part of any probe. */
#include "registry.h"
#include "record.h"

const struct rsm_stage_info rsm_stage_table[] = {
#define STAGE(carrier, hook, phase, links, may, firing, fires)                                                         \
    {#carrier, #hook, RSM_PHASE_##phase, RSM_LINK_##links, RSM_MAY_##may, RSM_FIRING_##firing, fires},
#include "stages.def"
#undef STAGE
};

const unsigned int rsm_stage_count = RSM_STAGE_COUNT;

_Static_assert(RSM_STAGE_COUNT <= RSM_STAGE_MAX, "raise RSM_STAGE_MAX in record_layout.h");
