"""What a request is for: targets, hosts and paths, read in the one way that a backend reads them too."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from mfalb.errors import MalformedMessage

_HOST_CHARACTERS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:[]"
_BAD_ENCODING: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})").search

_ENCODED_SLASH: Final = re.compile(rb"%(?:2[Ff]|5[Cc])").search
_ENCODED_CONTROL: Final = re.compile(rb"%(?:[01][0-9A-Fa-f]|7[Ff])").search


def host_without_port(authority: bytes) -> bytes:
    """The host of `host:port` or `[IPv6]:port`, brackets kept."""
    if authority.startswith(b"["):
        return authority[: authority.find(b"]") + 1]
    return authority.partition(b":")[0]


def default_port(authority: bytes) -> bytes:
    """An authority in lower case without the port that http and https have anyway: for comparing only."""
    return authority.lower().removesuffix(b":80").removesuffix(b":443")


def refuse_bad_host(authority: bytes) -> None:
    """Raise MalformedMessage for what is no host (RFC 9112 section 3.2): two readers could find two hosts in it.

    Narrower than RFC 3986, which allows commas, percent signs and the like in names that nobody has.
    """
    if authority.translate(None, _HOST_CHARACTERS):
        raise MalformedMessage("host")


def origin_form_untrusted(method: bytes, target: bytes) -> tuple[bytes, bytes]:
    """The path and query of a target that does not begin with a slash, and the authority in it (b"" for `*`).

    The authority of an absolute-form target replaces Host (RFC 9112 section 3.2.2); OPTIONS of one without a path is
    about the server as a whole (section 3.2.4).
    """
    if target == b"*" and method == b"OPTIONS":
        return target, b""
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise MalformedMessage("target")
    authority, slash, path = rest.partition(b"/")
    if not authority or b"@" in authority or b"?" in authority:
        raise MalformedMessage("target")
    return slash + path or (b"*" if method == b"OPTIONS" else b"/"), authority


def routing_path_untrusted(target: bytes, *, accepts_slashes: bool = False) -> bytes:
    """The path of a target as routes compare it: decoded, in lower case (as IIS compares), repeated slashes as one.

    Raises MalformedMessage for what a backend could resolve to another path than the one that was routed: dot
    segments (encoded or not, with parameters or not), fragments, encodings that are none (http.sys reads %u002e),
    encoded control bytes, and encoded slashes unless `accepts_slashes`. `*` goes where the root goes.
    """
    if target == b"*":
        return b"/"
    if b"#" in target:
        raise MalformedMessage("fragment")
    path = target.partition(b"?")[0]
    has_slash = False
    if b"%" in path:
        if _BAD_ENCODING(path) is not None:
            raise MalformedMessage("percent_encoding")
        if _ENCODED_CONTROL(path) is not None:
            raise MalformedMessage("encoded_control_byte")
        has_slash = _ENCODED_SLASH(path) is not None
        path = unquote_to_bytes(path)
    if b"\\" in path:
        path = path.replace(b"\\", b"/")
    if b"/." in path and any(segment.partition(b";")[0] in (b".", b"..") for segment in path.split(b"/")):
        raise MalformedMessage("dot_segments")
    if has_slash and not accepts_slashes:
        raise MalformedMessage("encoded_slash")
    while b"//" in path:
        path = path.replace(b"//", b"/")
    return path.lower()
