"""Show it: the catalogue names every metric once, and each exporter writes the same snapshot in its own form."""
