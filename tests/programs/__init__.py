"""Which real programs stand around the balancer, and how are they started, asked and stopped?

Everything runs on loopback, in a run directory of its own, under the process id that started it. A program that does
not come up fails with the tail of its log, and none is left behind when a test fails.
"""
