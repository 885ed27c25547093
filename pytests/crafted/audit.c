/* An audit module (rtld-audit(7)); linked with --audit and --depaudit it also asks for others. */
unsigned int la_version(unsigned int version);
unsigned int la_version(unsigned int version)
{
    return version;
}
void la_preinit(unsigned long *cookie);
void la_preinit(unsigned long *cookie)
{
    (void)cookie;
}
