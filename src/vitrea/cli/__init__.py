"""The terminal face, generated from job parameters."""
