"""Picking: where the particles lie in a micrograph."""
