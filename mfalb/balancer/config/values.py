"""Scalar values of the configuration language: durations, sizes, addresses, secrets."""
