"""Which address a name stands for, by a file in the form of /etc/hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from mfalb.flows.values import is_address


@dataclass(frozen=True, slots=True)
class Names:
    """Names with their addresses, and addresses with the first of their names."""

    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Self:
        """A hosts file's lines: an address, then its names. Raises ValueError, with the line's number, for another."""
        addresses: dict[str, tuple[str, ...]] = {}
        labels: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            address, *names = line.partition("#")[0].split() or [""]
            if not address:
                continue
            if not names or not is_address(address):
                raise ValueError(f"line {number} is no line of a hosts file: an address, then its names")
            labels.setdefault(address, names[0])
            for name in (one.lower() for one in names):
                addresses[name] = (*addresses.get(name, ()), address)
        return cls(addresses, labels)

    def of(self, host: str) -> tuple[str, ...]:
        """The addresses of a host; itself when it is one, or when nobody knows."""
        return self.addresses.get(host.lower().rstrip("."), (host,))
