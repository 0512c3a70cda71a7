"""The services of the reference estate that can be started by name."""

from __future__ import annotations

from typing import Final

# The name that is typed, and the module whose `start` it is: a service is one line here
SERVICES: Final = {
    "cloud": "mfalb.reference.cloud_service.__main__",
    "mfa-server": "mfalb.reference.mfa_server.__main__",
    "user-portal": "mfalb.reference.user_portal.__main__",
    "mobile-app": "mfalb.reference.mobile_app.__main__",
    "adfs": "mfalb.reference.adfs.__main__",
    "relying-party": "mfalb.reference.relying_party.__main__",
}
