"""File formats of particle lists, one module each."""
