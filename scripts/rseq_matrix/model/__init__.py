"""The model of a process's life: stages, classes, and what is expected of each stage. Pure: it runs nothing."""
