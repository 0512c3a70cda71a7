"""The estate: reference MFA backends, so that a balancer can be tried against the real problem.

Services never import one another; they meet over the wire, as the real ones do. They reproduce the deployment of Azure
MFA Server, whose second half of a one-way SMS sign-in only succeeds on the server that began it.
"""
