"""Cookie and Set-Cookie header values (RFC 6265): find one, take one out, write one."""

from __future__ import annotations


def find_cookie(header: bytes, name: bytes) -> bytes | None:
    """The value of the first cookie of that name in a Cookie header's value; None when it has none."""
    if header.find(name) < 0:  # most requests to most pools: one scan, nothing split
        return None
    for pair in header.split(b";"):
        key, separator, value = pair.partition(b"=")
        if separator and key.strip() == name:
            return value.strip().strip(b'"')
    return None


def without_cookie(header: bytes, name: bytes) -> bytes:
    """The Cookie header's value less every cookie of that name; empty when nothing is left.

    The backend never sees our cookie: it could only log or echo it.
    """
    kept = [pair.strip() for pair in header.split(b";") if pair.partition(b"=")[0].strip() != name]
    return b"; ".join(kept)


def set_cookie(name: str, value: str, path: str, *, is_secure: bool) -> bytes:
    """A Set-Cookie header's value for a session cookie that scripts cannot read."""
    secure = "; Secure" if is_secure else ""
    return f"{name}={value}; Path={path}; HttpOnly; SameSite=Lax{secure}".encode("latin-1")
