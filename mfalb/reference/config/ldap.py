"""Settings of a directory that is asked over LDAP."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """Where the directory is, and how a user is found there: a search as `bind_dn`, then a bind as the user.

    `url` is ldap://host:port or ldaps://host:port. `user_filter` has one `{}` for the name. Passwords do not cross the
    wire in clear unless `is_plain_allowed` says so, for a laboratory.
    """

    url: str
    base: str
    bind_dn: str
    bind_password: str = field(repr=False)
    user_filter: str = "(uid={})"
    name_attribute: str = "uid"
    ca: str | None = None
    starts_tls: bool = False
    is_plain_allowed: bool = False
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot work, or would show passwords."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("ldap", "ldaps") or not parts.hostname:
            raise ValueError("url is ldap://host:port or ldaps://host:port")
        if parts.scheme == "ldap" and not self.starts_tls and not self.is_plain_allowed:
            raise ValueError("passwords would cross the wire in clear: use ldaps:// or starts_tls")
        if self.user_filter.count("{}") != 1 or self.timeout_s <= 0:
            raise ValueError("user_filter has one {}, and timeout_s is more than 0")
