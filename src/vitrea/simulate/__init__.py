"""Particle sets with known answers."""
