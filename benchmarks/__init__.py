"""Benchmarks: each module is one target `make bench-NAME`, whose last line is JSON."""
