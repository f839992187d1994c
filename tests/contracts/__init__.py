"""What we rely on in other people's source, looked up there without running it."""
