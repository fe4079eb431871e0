"""Devices, precision, memory planning."""
