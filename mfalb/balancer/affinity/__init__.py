"""Which backend must this message go to, because it began what the message continues?

Core and stores: cookies that carry their own pin, keys into the pin table, and what pins look like to other nodes. It
never chooses among backends (that is a pool's work) and never changes a message's State: RFC 2865 section 2.3 forbids
it.
"""
