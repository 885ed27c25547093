/* The scenario `allocating`: a program that calls malloc(), should nobody have called it before. Fires no stage itself.
 */
#include <stdlib.h>

int main(void)
{
    void *volatile piece = malloc(1);
    free(piece);
    return 0;
}
