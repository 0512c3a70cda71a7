"""Load balancer and reverse proxy with MFA-aware affinity; see README.md."""

__version__ = "0.1.0"
