"""ML.ENERGY's measurements: read, fitted to, and asked of other tools."""
