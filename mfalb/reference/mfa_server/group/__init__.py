"""Which server of a group is its master, and how do the others come by what it writes?

The cloud MFA Service activates a server and says what it is; nobody is promoted but by an operator's word. Slaves open
the connections (gRPC over mutual TLS, one static port), ask for what follows their own position, apply it and say so; a
write is answered when those in step have it, because whoever wrote may ask another server next. A server whose past is
not the beginning of the master's is divergent: it says so, and waits for an operator.
"""
