"""What did the operator ask for, and is it possible?

YAML in, frozen values out; every error says file:line:column, what is wrong, what is accepted and what was probably
meant. Nothing else in the balancer reads files or environment variables for settings.
"""
