"""Compare particles with references over orientations and shifts."""
