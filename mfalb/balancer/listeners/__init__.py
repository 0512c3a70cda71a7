"""How do clients' bytes come in and answers go out?

Shell: the clients' side of the data path, on raw protocols and batched datagrams (an HTTP handler framework costs five
to seven times as much per request). It carries out what the exchange decides, counts it, and writes the access log.
"""
