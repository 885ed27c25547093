"""The C sources, when the package is installed as a wheel; in a checkout they lie at the top of the tree."""
