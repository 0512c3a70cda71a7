"""How does a forwarded exchange reach its backend, and its answer come back? And how do pins reach other nodes?

Shell: pools of sockets towards backends. It owns connections and reports what became of them; it never picks a
backend and never retries by itself: whether something may be sent again is the exchange's decision. The store of
pins that nodes share is one more server behind us: `valkey` speaks to it, `pin_sharing` says who waits for it.
"""
