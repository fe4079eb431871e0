"""Bytes on disk to arrays and tables, and back."""
