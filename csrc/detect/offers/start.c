/* Does a program that is linked to this libc start, and run its constructors? Without that nothing can be observed.
 * Exit status 3: it starts, but constructors were not called. Start files since glibc 2.34 leave that to libc. */
static int constructed;

__attribute__((constructor)) static void constructor(void)
{
    constructed = 1;
}

int main(void)
{
    return constructed ? 0 : 3;
}
