/* An experiment, not a stage: are the constructors of a preloaded object called before or after those of a needed
 * library that does not depend on it? The two are constructor_order_object.c, compiled twice; each prints its name. The
 * timeline model takes the order from here. */
int rsm_constructor_order_needed(void);

int main(void)
{
    return rsm_constructor_order_needed();
}
