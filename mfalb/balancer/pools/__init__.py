"""Which backends can take this work, and whose turn is it?

Core: pools, backends, their health and admin state (two facts, never one flag), and the algorithms. `now` comes in as
an argument; nothing here waits, sends or logs.
"""
