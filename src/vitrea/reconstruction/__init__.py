"""Put weighted particles back into a map."""
