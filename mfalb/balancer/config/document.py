"""YAML text → plain values, with the position of each of them.

ruamel.yaml reads the text into events; the values are built here, because only so each key and value keeps its line
and column, a key written twice is found, and anchors cannot blow the file up: every repetition of an anchor counts
against a limit. Scalars follow the core schema of YAML 1.2 (`yes`, `012` and dates are text).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.reader import ReaderError

from mfalb.balancer.config.values import quoted

Loc = tuple[str | int, ...]
"""Where a value stands: ("pools", "web", "backends", 0, "address"), as pydantic counts."""

_DEPTH_LIMIT = 32
_VALUE_LIMIT = 200_000  # far above any real file; an anchor bomb reaches it within its third level
_MERGE_KEY = "<<"
_TAGS_THAT_SAY_NOTHING = frozenset({f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str")})
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE, _FALSE = frozenset({"true", "True", "TRUE"}), frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}")


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the file; both count from 1."""

    line: int
    column: int


class BrokenYaml(Exception):  # noqa: N818 - a noun of the house, not a suffix habit
    """The text is not the YAML we accept; nothing below `position` was read."""

    def __init__(self, position: Position, message: str) -> None:
        super().__init__(message)
        self.position = position
        self.message = message


@dataclass(slots=True)
class _Node:
    """One value as written: a scalar, a list of nodes, or pairs of key position and node."""

    position: Position
    value: object


_Pairs = dict[str, tuple[Position, _Node]]


@dataclass(frozen=True, slots=True)
class Document:
    """A file's plain values (dict, list, str, int, float, bool, None) and where they stand."""

    data: object
    keys: dict[Loc, Position]
    values: dict[Loc, Position]
    findings: list[tuple[Position, str]] = field(default_factory=list)

    def at_key(self, loc: Loc) -> Position:
        """Where the key of `loc` stands; for list items and the root, which have none, where the value begins.

        What was not written (a default, a preset's value) stands where the nearest table around it does.
        """
        for length in range(len(loc), -1, -1):
            position = self.keys.get(loc[:length]) or self.values.get(loc[:length])
            if position is not None:
                return position
        return Position(1, 1)

    def at_value(self, loc: Loc) -> Position:
        """Where the value of `loc` begins; like `at_key` when nothing was written for it."""
        return self.values.get(loc) or self.at_key(loc)


def read(text: str) -> Document:
    """Reads one YAML document. Raises BrokenYaml; keys written twice are `findings`, the first one counts."""
    builder = _Builder(_events(text))
    root = builder.root()
    document = Document(None, {}, {}, builder.findings)
    spread = _Spread(document)
    return Document(spread.plain(root, ()), document.keys, document.values, document.findings)


# ------------------------------------------------------------------------------------- text → events


def _events(text: str) -> Iterator[Event]:
    last = Position(1, 1)
    events = iter(YAML(typ="safe", pure=True).parse(text))
    while True:
        try:
            event = next(events, None)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            position = last if mark is None else Position(mark.line + 1, mark.column + 1)
            raise BrokenYaml(position, _syntax_message(error)) from None
        except ReaderError as error:
            raise BrokenYaml(_position_of(text, error.position), "this character is not accepted in YAML") from None
        except (YAMLError, ValueError, OverflowError):
            # The scanner trips over escapes beyond Unicode ("\U00110000") with a bare ValueError.
            raise BrokenYaml(last, "what follows is not YAML") from None
        if event is None:
            return
        last = _position(event)
        yield event


def _syntax_message(error: MarkedYAMLError) -> str:
    context = f" {error.context}" if error.context else ""
    return f"not YAML:{context}{':' if context else ''} {error.problem or 'unreadable'}"


def _position(event: Event) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


def _position_of(text: str, offset: int) -> Position:
    before = text[:offset]
    return Position(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


# ------------------------------------------------------------------------------------ events → nodes


class _Builder:
    """Builds the nodes of one document; anchors are shared, not copied."""

    def __init__(self, events: Iterator[Event]) -> None:
        self.findings: list[tuple[Position, str]] = []
        self._events = events
        self._anchors: dict[str, _Node] = {}

    def root(self) -> _Node:
        root = _Node(Position(1, 1), None)
        is_read = False
        for event in self._events:
            if isinstance(event, StreamStartEvent | DocumentEndEvent | StreamEndEvent):
                continue
            if isinstance(event, DocumentStartEvent):
                if is_read:
                    raise BrokenYaml(_position(event), "a second YAML document begins here; write one only")
                continue
            root, is_read = self._node(event, 0), True
        return root

    def _node(self, event: Event, depth: int) -> _Node:
        position = _position(event)
        if depth > _DEPTH_LIMIT:
            raise BrokenYaml(position, f"nested more than {_DEPTH_LIMIT} levels deep")
        if isinstance(event, AliasEvent):
            return self._aliased(event)
        if not isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent):
            raise BrokenYaml(position, "a value is missing here")
        tag = str(event.tag) if event.tag is not None else None
        if tag not in {None, "!"} and tag not in _TAGS_THAT_SAY_NOTHING:
            raise BrokenYaml(position, f"the tag {quoted(tag)} is not accepted here; write the plain value")
        node = _Node(position, None)
        if isinstance(event, SequenceStartEvent):
            node.value = self._items(depth + 1)
        elif isinstance(event, MappingStartEvent):
            node.value = self._pairs(depth + 1)
        else:
            node.value = _scalar(event, position)
        if event.anchor is not None:
            # Known only once it is complete: an anchor inside itself would never end.
            self._anchors[event.anchor] = node
        return node

    def _aliased(self, event: AliasEvent) -> _Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            # The name is not repeated: an unquoted password may begin with an asterisk.
            raise BrokenYaml(
                _position(event), "this alias (*) names no anchor (&) above; quote text that begins with *"
            )
        return node

    def _items(self, depth: int) -> list[_Node]:
        items = []
        for event in self._events:
            if isinstance(event, SequenceEndEvent):
                break
            items.append(self._node(event, depth))
        return items

    def _pairs(self, depth: int) -> _Pairs:
        written: _Pairs = {}
        merged: list[_Node] = []
        for event in self._events:
            if isinstance(event, MappingEndEvent):
                break
            position = _position(event)
            if not isinstance(event, ScalarEvent):
                raise BrokenYaml(position, "a key must be plain text")
            value = next(self._events)
            node = self._node(value, depth)
            if isinstance(value, ScalarEvent) and node.value is None and not value.value:
                node.position = position  # nothing was written: its mark is already that of the next line
            if event.value == _MERGE_KEY and event.implicit[0]:
                merged.append(node)
            elif event.value in written:
                first = written[event.value][0].line
                self.findings.append((position, f"{quoted(event.value)} is already set on line {first}; keep one"))
            else:
                written[_text(event, position)] = (position, node)
        for node in merged:
            _merge(written, node)
        return written


def _merge(written: _Pairs, source: _Node) -> None:
    """`<<: *defaults`: keys of `source` that are not written themselves. A list of tables is merged in its order."""
    tables = source.value if isinstance(source.value, list) else [source]
    for table in tables:
        if not isinstance(table.value, dict):
            raise BrokenYaml(source.position, "'<<' merges a table; write <<: *anchor-of-a-table")
        for key, pair in table.value.items():
            written.setdefault(key, pair)


def _text(event: ScalarEvent, position: Position) -> str:
    text = str(event.value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise BrokenYaml(position, "half of a surrogate pair is not text")
    return text


def _scalar(event: ScalarEvent, position: Position) -> object:
    text = _text(event, position)
    is_plain = event.implicit[0]
    if not is_plain:
        return text
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


# ------------------------------------------------------------------------------ nodes → plain values


class _Spread:
    """Copies shared nodes to every place they are used at, within a limit, and notes the positions."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0

    def plain(self, node: _Node, loc: Loc) -> object:
        self._count += 1
        if self._count > _VALUE_LIMIT or len(loc) > _DEPTH_LIMIT:
            raise BrokenYaml(node.position, f"anchors repeat this into more than {_VALUE_LIMIT} values")
        self._document.values[loc] = node.position
        if isinstance(node.value, list):
            return [self.plain(item, (*loc, index)) for index, item in enumerate(node.value)]
        if isinstance(node.value, dict):
            return {key: self._entry(pair, (*loc, key)) for key, pair in node.value.items()}
        return node.value

    def _entry(self, pair: tuple[Position, _Node], loc: Loc) -> object:
        self._document.keys[loc] = pair[0]
        return self.plain(pair[1], loc)
