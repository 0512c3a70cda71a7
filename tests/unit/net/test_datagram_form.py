from __future__ import annotations

import errno
import re
import struct
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from mfalb.net import arena, batched_datagrams
from mfalb.net.batched_datagrams import BatchedDatagramSocket
from mfalb.net.datagram_form import PLAIN_VARIABLE, DatagramForm, datagram_form
from mfalb.net.datagrams import PlainDatagramSocket


def answers_with(number: int) -> Callable[..., int]:
    """A system call that fails like this."""

    def call(*_: object) -> int:
        arena.ffi.errno = number
        return -1

    return call


HERE = answers_with(errno.EBADF)  # what the kernel says of descriptor -1
AWAY = answers_with(errno.ENOSYS)


class Cffi:
    """cffi in a process whose C library is this one."""

    NULL = arena.ffi.NULL

    def __init__(self, library: object) -> None:
        self._library = library

    def dlopen(self, _name: None) -> object:
        return self._library

    @property
    def errno(self) -> int:
        return int(arena.ffi.errno)


def form_with(library: object, monkeypatch: pytest.MonkeyPatch) -> DatagramForm:
    monkeypatch.setattr(batched_datagrams, "ffi", Cffi(library))
    monkeypatch.setattr(BatchedDatagramSocket, "_shared", None)
    return datagram_form({})


@pytest.mark.parametrize("environment", [{}, {PLAIN_VARIABLE: ""}, {PLAIN_VARIABLE: "0"}, {"OTHER": "1"}])
def test_the_batched_form_serves_where_nothing_is_in_its_way(environment: dict[str, str]) -> None:
    form = datagram_form(environment)
    assert (form.wrap, form.name, form.why_plain) == (BatchedDatagramSocket, "batched", "")


@pytest.mark.parametrize("value", ["1", "yes"])
def test_the_plain_form_serves_when_it_is_asked_for(value: str) -> None:
    form = datagram_form({PLAIN_VARIABLE: value})
    assert (form.wrap, form.name, form.why_plain) == (PlainDatagramSocket, "plain", "MFALB_PLAIN_DATAGRAMS is set")


def test_where_the_batched_form_cannot_be_imported_the_plain_one_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without cffi, for which test_datagram_forms.py starts a balancer."""
    monkeypatch.setitem(sys.modules, "mfalb.net.batched_datagrams", None)
    form = datagram_form({})
    assert (form.wrap, form.name) == (PlainDatagramSocket, "plain")
    assert form.why_plain.startswith("ModuleNotFoundError: ")


@pytest.mark.parametrize(
    ("library", "why"),
    [
        (SimpleNamespace(sendmmsg=HERE), "AttributeError: .*recvmmsg"),
        (SimpleNamespace(recvmmsg=HERE), "AttributeError: .*sendmmsg"),
        (SimpleNamespace(recvmmsg=AWAY, sendmmsg=HERE), "OSError: .*not implemented"),
        (SimpleNamespace(recvmmsg=HERE, sendmmsg=AWAY), "OSError: .*not implemented"),
    ],
    ids=["no recvmmsg", "no sendmmsg", "recvmmsg not in the kernel", "sendmmsg not in the kernel"],
)
def test_without_the_system_calls_the_plain_form_serves(
    library: object, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = form_with(library, monkeypatch)
    assert form.wrap is PlainDatagramSocket
    assert re.match(why, form.why_plain)


def test_with_both_system_calls_the_batched_form_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    form = form_with(SimpleNamespace(recvmmsg=HERE, sendmmsg=HERE), monkeypatch)
    assert form.wrap is BatchedDatagramSocket


def test_on_a_32_bit_system_the_plain_form_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(struct, "calcsize", lambda _: 4)
    form = datagram_form({})
    assert (form.wrap, form.why_plain) == (PlainDatagramSocket, "not a 64-bit system")
