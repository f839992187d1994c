"""Tests of the simulated engines and meters."""
