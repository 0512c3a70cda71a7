"""`python -m mfalb.reference.relying_party --settings FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from mfalb.reference.config.files import SettingsFile
from mfalb.reference.faults import Faults
from mfalb.reference.relying_party.app import RelyingParty
from mfalb.reference.relying_party.checks import TokenChecker
from mfalb.reference.relying_party.key_source import KeySource, key_session
from mfalb.reference.service import main, serve_sites


async def start(settings: SettingsFile, stack: AsyncExitStack) -> Mapping[str, int]:
    """Serve the sample relying party."""
    party, faults = settings.relying_party(), Faults("slow_s", "hang", "down", "clock_skew_s")
    session = await stack.enter_async_context(key_session(party.issuer_ca))
    keys = KeySource(f"{party.issuer}/discovery/keys", session, faults.monotonic)
    checker = TokenChecker(party.issuer, party.client_id, faults.unix_time)
    site = RelyingParty(party, checker, keys, faults.monotonic)
    return await serve_sites(
        stack,
        http=(site.application(faults), party.endpoint),
        control=(faults.control_application(), party.control),
    )


if __name__ == "__main__":
    main("A sample relying party of the reference AD FS farm.", start)
