/* Does a program that is linked to this libc start, and run its constructors? Without that nothing can be observed. */
static int constructed;

__attribute__((constructor)) static void constructor(void)
{
    constructed = 1;
}

int main(void)
{
    return !constructed;
}
