"""The product: a load balancer with MFA-aware affinity.

It fronts other people's MFA servers as well as the reference ones, so it may know nothing of `mfalb.reference`.
"""
