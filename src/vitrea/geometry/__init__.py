"""Euler angles, HEALPix sampling, symmetry, masks."""
