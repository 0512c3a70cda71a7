"""FreeRADIUS's dictionaries as Debian installs them: which attributes there are, and how each is hidden."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DICTIONARIES: Final = Path("/usr/share/freeradius")
_VENDOR_SPECIFIC: Final = 26


@dataclass(frozen=True, slots=True)
class DictionaryAttribute:
    """One ATTRIBUTE line. `path` is type, or 26, vendor, vendor's type, nested type; `vendor_format` as written."""

    file: str
    name: str
    path: tuple[int, ...]
    flags: frozenset[str]
    vendor_format: str

    @property
    def encryption(self) -> str | None:
        """The number behind `encrypt=`, None for what stands in clear."""
        return next((flag.removeprefix("encrypt=") for flag in self.flags if flag.startswith("encrypt=")), None)


@dataclass(slots=True)
class _Reader:
    """Where in a dictionary we are: dictionary(5)."""

    file: str
    vendors: dict[str, tuple[int, str]]  # by name: number and format
    vendor: str | None = None
    is_extended: bool = False
    types: dict[str, tuple[int, ...]] = field(default_factory=dict)
    within: list[tuple[int, ...]] = field(default_factory=list)

    def take(self, words: list[str]) -> DictionaryAttribute | None:
        """One line; an attribute when it defines one of a packet's."""
        match words:
            case ["VENDOR", name, number, *rest]:
                self.vendors[name] = (int(number, 0), rest[0].removeprefix("format=") if rest else "1,1")
            case ["BEGIN-VENDOR", name, *rest]:
                self.vendor, self.is_extended = name, bool(rest)  # "format=Extended-Vendor-Specific-5" (RFC 6929)
            case ["END-VENDOR", *_]:
                self.vendor, self.is_extended = None, False
            case ["BEGIN-TLV", name]:
                self.within.append(self.types[name])
            case ["END-TLV", *_]:
                self.within.pop()
            case ["ATTRIBUTE", name, number, _, *rest]:
                return self._attribute(name, number, rest)
        return None

    def _attribute(self, name: str, number: str, rest: list[str]) -> DictionaryAttribute:
        path = tuple(int(part, 0) for part in number.split("."))
        path = (self.within[-1] if self.within else ()) + path
        self.types[name] = path
        flags, vendor_format = frozenset(",".join(rest).split(",")), ""
        if self.vendor is not None:
            vendor, vendor_format = self.vendors[self.vendor]
            path = (*((245,) if self.is_extended else ()), _VENDOR_SPECIFIC, vendor, *path)
        return DictionaryAttribute(self.file, name, path, flags, vendor_format)


def radius_attributes() -> list[DictionaryAttribute]:
    """Every attribute that any file about RADIUS defines; DHCP's speak of another protocol.

    Some files use a vendor that another one declares, and some declare it anew with another format. Raises
    FileNotFoundError where there are none.
    """
    files = [path for path in sorted(DICTIONARIES.glob("dictionary.*")) if not path.name.endswith("dhcp")]
    if not files:
        raise FileNotFoundError(f"{DICTIONARIES}: no dictionaries (Debian package freeradius-common)")
    declared: dict[str, tuple[int, str]] = {}
    for path in files:
        reader = _Reader(path.name, declared)
        for words in _lines(path):
            if words[:1] == ["VENDOR"]:
                reader.take(words)
    return [found for path in files for found in _read(path, dict(declared))]


def _lines(path: Path) -> Iterator[list[str]]:
    for line in path.read_text("utf-8").splitlines():
        yield line.partition("#")[0].split()


def _read(path: Path, declared: dict[str, tuple[int, str]]) -> Iterator[DictionaryAttribute]:
    reader = _Reader(path.name, declared)
    for words in _lines(path):
        found = reader.take(words)
        if found is not None:
            yield found
