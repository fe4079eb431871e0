"""Movies: how the specimen moved while it was exposed, and the sum of frames that undoes it."""
