"""What one ELF file says about itself: its TLS, its early and late code, its critical sections."""
