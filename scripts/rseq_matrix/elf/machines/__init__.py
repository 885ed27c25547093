"""What differs between machines: one module for each, and the table of them."""
