"""What relying parties may ask for. Core: nothing is sent to an address that is not written in the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mfalb.reference.adfs.farm import Context
from mfalb.reference.config.adfs import RelyingPartyTrust

_TEXT_LIMIT: Final = 512  # characters of a nonce or state


class Trusts:
    """The relying parties that the farm knows."""

    def __init__(self, trusts: Sequence[RelyingPartyTrust]) -> None:
        self._redirect_uris = {trust.client_id: frozenset(trust.redirect_uris) for trust in trusts}

    def read_untrusted(self, query: Mapping[str, str], browser: str) -> Context | None:
        """What an authorization request asks for; None for one that may not be answered at all.

        Addresses are compared letter for letter (RFC 9700 section 4.1.3), so that nobody is sent anywhere else.
        `browser` is the digest of the browser's cookie.
        """
        client_id, redirect_uri = query.get("client_id", ""), query.get("redirect_uri", "")
        nonce, state = query.get("nonce", ""), query.get("state", "")
        if redirect_uri not in self._redirect_uris.get(client_id, ()):
            return None
        is_ours = query.get("response_type") == "id_token" and query.get("response_mode") == "form_post"
        if not is_ours or "openid" not in query.get("scope", "").split():
            return None
        if not 0 < len(nonce) <= _TEXT_LIMIT or len(state) > _TEXT_LIMIT:
            return None
        return Context(client_id, redirect_uri, nonce, state, browser)
