"""The model of a process's life: the stages, the classes of a cell, and what is expected of each. Pure: it runs nothing."""
