"""The nouns: small immutable records every room uses."""
