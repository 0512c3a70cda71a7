"""What is the balancer doing, and how is it told to do something else?

Shell: aiohttp, on its own port. It reads the pools and the counters; it is never on the data path.
"""
