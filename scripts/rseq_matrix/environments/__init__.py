"""What surrounds a process of the matrix: the list, whether each can be had here, and any program in one of them."""
