"""How do listeners, exchanges, affinity, pools and upstreams of a protocol fit together, now and after a reload?

Here, and nowhere else, the rooms below are joined: `streams` for HTTP and TCP, `radius` for RADIUS over UDP and TLS.
What a reload changes is exchanged in the objects that connections hold, so they go on under the new rules; a listener
whose frame has changed (address, protocol, PROXY protocol, whether it speaks TLS) is replaced, and its connections end
in peace.
"""
