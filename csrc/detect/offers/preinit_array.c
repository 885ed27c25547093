/* DT_PREINIT_ARRAY. */
static int answer = 1;

static void preinit(void)
{
    answer = 0;
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(void) = preinit;

int main(void)
{
    return answer;
}
