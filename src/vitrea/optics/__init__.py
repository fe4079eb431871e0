"""The microscope: contrast transfer, aberrations, damping."""
