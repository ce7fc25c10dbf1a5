"""Event cameras: recordings, simulator, detection, interpolation."""
