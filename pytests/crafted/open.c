/* Opens the library that it is given, and prints "opened" or what dlopen() says. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc < 2)
        return puts("started") < 0;
    return puts(dlopen(argv[1], RTLD_NOW) ? "opened" : dlerror()) < 0;
}
