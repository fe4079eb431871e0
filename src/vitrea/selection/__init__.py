"""Which particles and classes to keep."""
