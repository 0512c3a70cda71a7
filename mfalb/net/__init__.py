"""The plumbing both towers stand on: how do bytes and tasks get in and out of this process?

Shell. Sockets in batches, TLS contexts, tasks that have an owner. May not know RADIUS, HTTP or MFA: what it carries
is bytes.
"""
