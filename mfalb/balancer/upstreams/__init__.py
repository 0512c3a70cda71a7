"""How does a forwarded exchange reach its backend, and its answer come back?

Shell: pools of sockets towards backends. It owns connections and reports what became of them; it never picks a
backend and never retries by itself: whether something may be sent again is the exchange's decision.
"""
