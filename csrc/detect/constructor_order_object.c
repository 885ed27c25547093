/* The needed library and the preloaded object of constructor_order.c. RSM_NAME is the name of this one. */
#include <unistd.h>

#define RSM_TEXT(name) RSM_QUOTED(name)
#define RSM_QUOTED(name) #name " "
#define RSM_FUNCTION(name) RSM_JOINED(name)
#define RSM_JOINED(name) rsm_constructor_order_##name

__attribute__((constructor)) static void constructor(void)
{
    if (write(1, RSM_TEXT(RSM_NAME), sizeof(RSM_TEXT(RSM_NAME)) - 1) < 0)
        _exit(1);
}

__attribute__((visibility("default"))) int RSM_FUNCTION(RSM_NAME)(void)
{
    return 0;
}
