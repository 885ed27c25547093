/* Everything that Python sees of C: the declarations that cffi reads, for C. */
#ifndef RSM_NATIVE_H
#define RSM_NATIVE_H

#include "record.h"
#include "registry.h"
#include "tracer_layout.h"
#include "verify/mailbox.h"

#include "native_layout.h"
#include "native_trace_layout.h"

#endif
