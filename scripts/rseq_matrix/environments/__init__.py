"""The environments: what each is made of, whether it can be had here, and how any program is run in one."""
