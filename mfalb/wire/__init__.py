"""Bytes to values and back: what does this message say?

Core. May not: open a socket, read a clock, draw randomness, log, or know what a backend is. A function that reads
network bytes ends in `_untrusted` (or is called `read_untrusted`) and raises only `MalformedMessage`, so a caller
needs one `except` and a fuzzer needs no knowledge.
"""
