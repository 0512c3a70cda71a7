"""Does a backend work right now?

Shell: a loop that probes each backend and reports results to its health state, which decides (rise and fall). No probe
carries a user: nobody's phone rings and no account is locked because a balancer wants to know.
"""
