"""An MFA Server: RADIUS and the Web Service SDK in front of one verification core.

One-time passwords live in this process's memory only. That is the property the balancer exists for.
"""
