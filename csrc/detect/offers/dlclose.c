/* dlclose() that unloads: the destructor of the object runs then, and not at exit. The object is argv[1], which is
 * dlclose_object.c and sets the variable that it is told. */
#include <dlfcn.h>
#include <stddef.h>

int main(int count, char **arguments)
{
    int unloaded = 0;
    void *object = count > 1 ? dlopen(arguments[1], RTLD_NOW) : NULL;
    int **tell = object ? (int **)dlsym(object, "rsm_tell") : NULL;
    if (!tell)
        return 1;
    *tell = &unloaded;
    dlclose(object);
    return !unloaded;
}
