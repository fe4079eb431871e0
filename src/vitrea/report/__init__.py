"""Pictures of results, and one-page HTML reports made of them."""
