"""Every row of the RADIUS requirement table has a test that carries its id in its name: `test_c1_…`, `test_f3_f4_…`.

The rows are what the RFCs, the drafts and the complaints of operators ask of a RADIUS proxy in front of MFA servers.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parents[1]

ROWS: Final = {
    "A1": "a source without a secret is dropped, its log line rare (RFC 2865 2)",
    "A2": "under 20 or over 4096 bytes, or a Length that lies, is dropped (2865 3)",
    "A3": "what stands behind Length is ignored, neither signed nor forwarded (2865 3)",
    "A4": "attributes that do not fill the packet are dropped with it (2865 5)",
    "A5": "a Code that is unknown on its port is dropped (2865 3)",
    "A6": "a wrong Message-Authenticator is dropped and touches no table (3579 3.2, 5080 2.2.2)",
    "A7": "EAP without a Message-Authenticator is dropped both ways (3579 3.1)",
    "A8": "Accounting-, CoA- and Disconnect-Requests with a wrong authenticator are dropped (5080 2.3.3, 5176)",
    "A9": "unknown, malformed and extended attributes are forwarded verbatim (6929 5.2)",
    "A10": "attributes of one type keep their order, EAP-Messages stay together (2865 5, 3579 3.1)",
    "B1": "answers from elsewhere, unasked or wrongly signed are dropped and change nothing (2865 2.3)",
    "B2": "a valid answer gets back the client's identifier, secret and Proxy-States (2865 2.3, 5.33)",
    "B3": "Proxy-States pass unchanged, at most one is added, none is read (2865 2.3, 5.33)",
    "B4": "State and Class are the same bytes on the other side (2865 2.3, 2866 2.1, 5176 3.1)",
    "B5": "User-Password is hidden anew for the backend (2865 2.3)",
    "B6": "CHAP keeps its challenge when the authenticator changes (2865 2.3)",
    "B7": "salt-encrypted attributes are hidden anew for the client, salts unique, tags kept (2548, 2868 3.5)",
    "B8": "a second valid answer is dropped (5080 2.2.2)",
    "B9": "an answer to what was given up is dropped and counted as late (5080 2.2.2)",
    "B10": "the State of a challenge goes to its issuer, whatever policy, load or drain (2865 5.24)",
    "B11": "without State a session is new: no pin by user name (5080 2.1.1)",
    "B12": "an unknown State goes where every node would send it, counted (3539 3.4.3)",
    "B13": "a State pinned to a dead server goes to no other: reject or silence",
    "B14": "the same State bytes of two servers lead back to the right one each",
    "B15": "the State of an Accept or a CoA-Request comes back to its issuer, too (5080 2.1.1, 5176 3.3)",
    "C1": "a retransmit in flight is never a second request; the same bytes again, once a second (5080 2.2.2)",
    "C2": "a retransmit after the answer gets the stored bytes (5080 2.2.2)",
    "C3": "a new authenticator under the same identifier is a new request (5080 2.2.2)",
    "C4": "answers are stored for 5 to 30 s, for 10 at least in front of MFA (5080 2.2.2)",
    "C5": "no identifier twice, longest free first, more ports past 256 (5080 2.2.2, 2865 2.5)",
    "C6": "retransmits of our own keep RFC 5080's times: there are none (5080 2.2.1)",
    "C7": "an accounting retransmit with another delay is a new request (2866 4.1, 5.2)",
    "C8": "no Accounting-Response is invented (2866 4.1, 2607)",
    "D1": "Status-Server is answered here, once, signed, and never proxied (5997 3, 4.2)",
    "D2": "Status-Server is limited for each client (5997 4.2)",
    "D3": "probes are new each time, signed, without a user (5997 3, 4.1)",
    "D4": "a backend that is silent on one request stays up (3539 3.4, 5997 4.3)",
    "D5": "the watchdog keeps RFC 3539's times (3539 3.4.1)",
    "D6": "only a lost server's keys move; running sessions stay (3539 3.4.3)",
    "D7": "under overload known States and answers come before new requests (5080 2.2.3)",
    "E1": "a forwarded Access-Request has its Message-Authenticator first",
    "E2": "an answer to a client has its Message-Authenticator first",
    "E3": "a required Message-Authenticator that is missing is found before anything else, its log line rare",
    "E4": "a Proxy-State without a Message-Authenticator is dropped where that is limited",
    "E5": "a Message-Authenticator is good wherever it stands",
    "E6": "accounting and CoA keep their own rules for Message-Authenticator",
    "E7": "a Proxy-State that nobody sent is dropped and told: someone forges answers",
    "E8": "what grows over 4096 bytes is dropped and counted",
    "F1": "CoA and Disconnect go to their NAS by RFC 5176's rules, or get a NAK",
    "F2": "loops end here",
    "F3": "an Access-Reject is final",
    "F4": "an Access-Challenge is an answer: no fail-over",
}

_LISTS: Final = {"A": 10, "B": 15, "C": 8, "D": 7, "E": 8, "F": 4}


@cache
def names_of_tests() -> frozenset[str]:
    """The name of every test function in the project; read, not imported."""
    trees = (ast.parse(file.read_text("utf-8")) for file in TESTS.rglob("test_*.py"))
    functions = (
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def ids_in(name: str) -> set[str]:
    """The row ids at the head of a test's name: `test_c1_c6_a_request…` carries C1 and C6.

    Only there: the "a1" of a word further on is no id.
    """
    found = re.match(r"test_((?:[a-f][0-9]{1,2}_)+)", name)
    return {one.upper() for one in found[1].rstrip("_").split("_")} if found else set()


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_in_the_name_of_a_test(row: str) -> None:
    carrying = [name for name in names_of_tests() if row in ids_in(name)]
    assert carrying, f"no test_{row.lower()}_…: {ROWS[row]}"


def test_no_test_carries_the_id_of_a_row_that_is_not_there() -> None:
    unknown = {name for name in names_of_tests() if not ids_in(name) <= ROWS.keys()}
    assert not unknown


def test_the_table_is_whole() -> None:
    assert list(ROWS) == [f"{letter}{number}" for letter, last in _LISTS.items() for number in range(1, last + 1)]


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("test_c1_a_retransmit", {"C1"}),
        ("test_f3_f4_every_answer", {"F3", "F4"}),
        ("test_b15_re_authentication", {"B15"}),
        ("test_a_retransmit_of_c1_is_none", set()),
        ("test_c4x_is_no_id", set()),
        ("test_every_row", set()),
    ],
)
def test_an_id_is_read_at_the_head_of_a_name_only(name: str, ids: set[str]) -> None:
    assert ids_in(name) == ids
