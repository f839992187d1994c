"""What stands in for hardware, server, users and peers in the benchmarks; each runs in a process of its own."""
