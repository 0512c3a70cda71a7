"""`python -m mfalb.reference.relying_party --settings FILE`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.relying_party.app import RelyingParty
from mfalb.reference.relying_party.checks import TokenChecker
from mfalb.reference.relying_party.key_source import KeySource, key_session
from mfalb.reference.service import main, serve_http


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve the sample relying party."""
    party = settings.relying_party()
    session = await stack.enter_async_context(key_session(party.issuer_ca))
    keys = KeySource(f"{party.issuer}/discovery/keys", session, time.monotonic)
    checker = TokenChecker(party.issuer, party.client_id, time.time)
    site = RelyingParty(party, checker, keys, time.monotonic)
    return {"http": await serve_http(site.application(), party.endpoint, stack)}


if __name__ == "__main__":
    main("A sample relying party of the reference AD FS farm.", start)
