/* The library function whose binding and calls the audit library records. Fires no stage itself. */
__attribute__((visibility("default"))) int rsm_audited_function(int value)
{
    return value + 1;
}
