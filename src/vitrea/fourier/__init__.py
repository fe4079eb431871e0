"""Transforms, packed samples, shells, filters, FSC."""
