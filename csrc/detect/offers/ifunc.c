/* Indirect functions: relocations of type IRELATIVE are applied. */
static int answer = 1;

static void target(void)
{
    answer = 0;
}

static void (*resolve(void))(void)
{
    return target;
}

void rsm_indirect(void) __attribute__((ifunc("resolve")));

int main(void)
{
    rsm_indirect();
    return answer;
}
