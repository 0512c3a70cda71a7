"""A configuration with all three RADIUS services, in pieces to put something else for."""

AUTHENTICATION = """\
  - name: auth
    protocol: radius
    bind: ["127.0.0.1:1812"]
    clients: [{name: vpn, network: 10.0.5.0/24, secret_env: SECRET}]
    pool: auth
"""
ACCOUNTING = """\
  - name: acct
    protocol: radius
    service: accounting
    bind: ["127.0.0.1:1813"]
    clients: [{name: vpn, network: 10.0.5.0/24, secret_env: SECRET}]
    pool: acct
"""
DYNAMIC = """\
  - name: coa
    protocol: radius
    service: dynamic_authorization
    bind: ["127.0.0.1:3799"]
    clients: [{name: mfa1, network: 10.0.1.11, secret_env: SECRET}]
    follows: auth
    pool: nases
"""
AUTH_POOL = """\
  auth:
    backends: [{name: mfa1, address: "10.0.1.11:1812", secret_env: SECRET, require_message_authenticator: true}]
    health_check: {type: radius}
    affinity: {preset: radius_challenge}
"""
ACCT_POOL = """\
  acct:
    backends: [{name: mfa1, address: "10.0.1.11:1813", secret_env: SECRET}]
    health_check: {type: radius}
    affinity: {type: radius_session, follows: auth}
"""
NASES = """\
  nases:
    backends: [{name: vpn, address: "10.0.5.1:3799", secret_env: SECRET}]
"""
ALL = f"listeners:\n{AUTHENTICATION}{ACCOUNTING}{DYNAMIC}pools:\n{AUTH_POOL}{ACCT_POOL}{NASES}"
NAS = '{name: vpn, address: "10.0.5.1:3799", secret_env: SECRET}'


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} is not in the text exactly once"
    return text.replace(old, new)
