"""Post-processing, masks and comparison of maps."""
