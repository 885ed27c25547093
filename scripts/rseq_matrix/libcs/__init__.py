"""The libc axis: which libcs there are, where they come from, what is in them, and how programs are linked to them."""
