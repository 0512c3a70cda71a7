"""What a sign-in has come to, sealed with the farm's key so that any node can go on with it.

The time and random bytes come in as arguments. A sealed text says what stage of a sign-in it is for, and until when it
counts; a text of one stage is worth nothing at another.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12  # 96 bits (NIST SP 800-38D section 8.2.2): random, and far fewer than 2**32 forms a key
SEALED_LIMIT: Final = 8192  # characters


class Stage(Enum):
    """What has to come next, and how long it may take in seconds."""

    PASSWORD = "password"  # noqa: S105 - a stage's name
    CODE = "code"

    @property
    def life_s(self) -> float:
        return 900.0 if self is Stage.PASSWORD else 300.0  # a code outlives three minutes nowhere


@dataclass(frozen=True, slots=True)
class Context:
    """A sign-in under way.

    What the relying party asked for, and the digest of the browser's cookie; with a code on its way the user, and the
    id that ties the code to the first half.
    """

    client_id: str
    redirect_uri: str
    nonce: str = field(repr=False)
    state: str = field(repr=False)
    browser: str = field(repr=False)
    user: str = ""
    request_id: str = field(default="", repr=False)

    def is_of(self, cookie: str) -> bool:
        """Whether it was made for the browser that shows this cookie."""
        return bool(cookie) and hmac.compare_digest(self.browser, browser_digest(cookie))


def browser_digest(cookie: str) -> str:
    """What a context keeps of a browser's cookie."""
    return hashlib.sha256(cookie.encode()).hexdigest()


class FarmKey:
    """The secret that all nodes of a farm have."""

    def __init__(self, key: bytes) -> None:
        """Raises ValueError for a key that has not 32 bytes."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a farm key has {KEY_BYTES} bytes")
        self._cipher = AESGCM(key)

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """A key in base64. Raises OSError and ValueError."""
        return cls(b64decode(path.read_text("ascii").strip(), validate=True))

    def seal(self, stage: Stage, context: Context, now: float, nonce: bytes) -> str:
        """A text for a form. `now` is unix seconds, `nonce` 12 random bytes."""
        content = json.dumps({**asdict(context), "until": now + stage.life_s}, ensure_ascii=False).encode()
        return urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, content, stage.value.encode())).decode("ascii")

    def open_untrusted(self, stage: Stage, text: str, now: float) -> Context | None:
        """What a form brought back; None for what the farm has not sealed for this stage, or too long ago."""
        if len(text) > SEALED_LIMIT:
            return None
        try:
            sealed = urlsafe_b64decode(text.encode())
            content = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], stage.value.encode())
        except (ValueError, InvalidTag):
            return None
        values = json.loads(content)  # our own, since it could be opened
        return Context(**values) if now <= values.pop("until") else None
