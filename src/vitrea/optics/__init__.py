"""The microscope: contrast transfer, aberrations, noise."""
