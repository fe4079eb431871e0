"""Defocus, astigmatism and phase shift from the Thon rings of micrographs."""
