"""Expectation-maximisation: what a refinement estimates and how."""
