/* A library whose IFUNC resolver uses the subject before the subject's own relocations are done: objects are relocated
 * in the reverse of the order in which they were loaded, and what is preloaded comes before what a program needs. */
#include "subject_object.h"

static unsigned done;

static unsigned adds(void)
{
    return done;
}

static __attribute__((used)) unsigned (*resolve(void))(void)
{
    const struct r_debug *debug = rsm_debugger_list();
    for (const struct link_map *map = debug->r_map; map; map = map->l_next) {
        struct rsm_dynamic_tables tables = {0};
        rsm_dynamic_tables_read(&tables, map->l_addr, map->l_ld);
        void (*add)(unsigned counter, uint64_t n);
        *(const void **)&add = rsm_dynamic_symbol(&tables, "rsm_subject_add");
        if (!add || rsm_object_relocated(map->l_addr, map->l_ld) == 1)
            continue;
        for (int i = 0; i < 1000; i++)
            add(5, 1);
        done += 1000;
    }
    return adds;
}

unsigned early_adds(void) __attribute__((ifunc("resolve")));
unsigned early_uses(void);

unsigned early_uses(void) /* so that the resolver runs when this library is relocated */
{
    static unsigned (*volatile pointer)(void) = early_adds;
    return pointer();
}
