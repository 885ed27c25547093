/* An indirect function: crafted_function(), which crafted_resolver() resolves to crafted_implementation(). */
#ifndef CRAFTED_RESOLVER_H
#define CRAFTED_RESOLVER_H

#ifdef PROGRAM
#include "start.h"
#endif

typedef int (*crafted_type)(void);

/* What the resolver saw, for programs that run. Not static, hidden: no relocation is needed to reach it. */
__attribute__((visibility("hidden"))) int crafted_seen;

static int crafted_implementation(void)
{
    return crafted_seen;
}

int crafted_function(void) __attribute__((ifunc("crafted_resolver")));
__attribute__((used)) static crafted_type crafted_resolver(void);

#ifdef PROGRAM
START
{
    return crafted_function();
}
#else
int crafted_call(void);
int crafted_call(void)
{
    return crafted_function();
}
#endif

#endif
