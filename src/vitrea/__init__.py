"""Vitrea: cryo-EM structure determination in one Python package."""

__version__ = "0.1.0"
