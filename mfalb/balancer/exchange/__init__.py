"""What happens to one request and its answer?

Core: one event in (a request, an answer, a failure, a deadline), plain values out (`Forward`, `Reply`, `Drop` ...).
No sockets, no clock, no async: each rule about retransmits, identifiers, pins and failures can be tested with a
function call.
"""
