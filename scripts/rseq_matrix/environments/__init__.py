"""The environments: what each is made of, whether it is available here, and how any program is run in one."""
