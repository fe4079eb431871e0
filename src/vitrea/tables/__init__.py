"""Tables of particles, micrographs and classes: choosing, changing, joining, comparing, converting."""
