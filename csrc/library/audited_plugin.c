/* An object to dlopen() and dlclose() under an audit library. Fires no stage itself. */
__attribute__((visibility("default"))) int rsm_audited_plugin = 1;
