"""Who owns what outlives a worker?

Shell: listening sockets, configuration, health, admin and the worker itself. Sockets are bound here, all or none,
before anything else starts, so that an impossible configuration never starts half a server.
"""
