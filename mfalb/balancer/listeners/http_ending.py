"""How an exchange ended, in HAProxy's letters: network teams read them already."""

from __future__ import annotations

from enum import Enum


class Ending(Enum):
    """Who ended it: the first letter. `-` is the normal end."""

    NORMAL = "-"
    CLIENT = "C"  # left
    CLIENT_TIME = "c"  # was too slow
    SERVER = "S"  # refused, or broke off
    SERVER_TIME = "s"  # was too slow
    PROXY = "P"  # we refused: a limit, a rule, what could be read in two ways
    RESOURCE = "R"  # we had no room


class Phase(Enum):
    """What it was doing: the second letter."""

    REQUEST = "R"  # the request was being read
    QUEUE = "Q"  # in its pool's line
    CONNECT = "C"
    HEAD = "H"  # sent; the answer's head was awaited
    DATA = "D"  # the answer was being passed on
    TUNNEL = "T"  # protocols were switched
