"""From micrographs to particle images: windows, rescaling, background normalisation, re-centring."""
