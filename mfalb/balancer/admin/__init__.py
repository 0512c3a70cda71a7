"""What is the balancer doing, and how is it told to do something else?

Shell: aiohttp. A TCP port for reading (metrics, status, readiness), and a Unix socket whose API can change things:
`openapi` is its table of routes, `api_models` what goes over it, `operations` the protocol of whoever does it. Neither
is ever on the data path.
"""
