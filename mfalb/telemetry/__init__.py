"""What happened, for people and for machines: logs and metrics.

May not decide anything and never takes a secret: what is handed in here may end up in a file that many people read,
so callers hand over names, counts and reasons, never passwords, OTPs, shared secrets, cookie values or bodies.
"""
