"""Promise: nobody gets into a group, or at its data, who does not belong to it; and every try is counted."""

from __future__ import annotations

import queue
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from programs.certificates import Authority, CertificateFiles
from programs.descriptors import sockets_of
from programs.mfa_group import GROUP, MfaGroup, MfaServer, with_group
from programs.ports import LOOPBACK
from programs.process import wait_until

from mfalb.reference.config.mfa_server import ServerKind
from mfalb.reference.mfa_server.group.messages import (
    Applied,
    Heartbeat,
    Hello,
    Welcome,
    WriteCall,
    message_bytes,
    read_message_untrusted,
)

HELLO = Hello(GROUP, "domain_joined", "mfa2", epoch=1, sequence=1, known_epoch=1)
WRITE = WriteCall("mfa2", GROUP, "AddUser", {"user": "mallory", "phone": "+1 555 0666"})


@pytest.fixture
def group(tmp_path: Path) -> Iterator[MfaGroup]:
    with MfaGroup(tmp_path) as running:
        yield running


@pytest.fixture
def master(group: MfaGroup) -> MfaServer:
    server = group.start("mfa1")
    server.wait_for("master")
    return server


def channel_to(server: MfaServer, ca: Path, files: CertificateFiles | None) -> grpc.Channel:
    key, chain = (None, None) if files is None else (files.key.read_bytes(), files.cert.read_bytes())
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), key, chain)
    return grpc.secure_channel(f"{LOOPBACK}:{server.rpc_port}", credentials)


def follow(channel: grpc.Channel, request: bytes) -> bytes:
    """The first message that a slave gets. Raises RpcError."""
    method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/mfalb.Replication/Follow")
    return next(iter(method(request, timeout=10)))


def refused(channel: grpc.Channel, request: bytes) -> tuple[grpc.StatusCode, str]:
    with channel, pytest.raises(grpc.RpcError) as refusal:
        follow(channel, request)
    error = refusal.value
    assert isinstance(error, grpc.Call)
    return error.code(), error.details() or ""


def counted(server: MfaServer, reason: str) -> int:
    return int(server.status()["refused_peers"].get(reason, 0))


def test_a_server_of_the_group_is_served(group: MfaGroup, master: MfaServer) -> None:
    files = group.authority.issue("mfa2", "mfa2", LOOPBACK)
    with channel_to(master, group.authority.ca, files) as channel:
        assert isinstance(read_message_untrusted(follow(channel, message_bytes(HELLO))), Welcome)
    assert master.status()["refused_peers"] == {}


@pytest.mark.parametrize("is_stranger", [False, True], ids=["no certificate", "another authority's"])
def test_without_a_certificate_of_the_group_s_authority_there_is_no_connection(
    group: MfaGroup, master: MfaServer, tmp_path: Path, *, is_stranger: bool
) -> None:
    files = Authority(tmp_path / "stranger").issue("mfa2", "mfa2", LOOPBACK) if is_stranger else None
    code, _ = refused(channel_to(master, group.authority.ca, files), message_bytes(HELLO))
    assert code is grpc.StatusCode.UNAVAILABLE
    wait_until(lambda: counted(master, "certificate") > 0, "the refusal to be counted")
    assert master.call("TestMasterConnection").is_good


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (replace(HELLO, server="mfa3"), "forged_name"),
        (replace(HELLO, group="branch"), "other_group"),
        (replace(HELLO, kind="standalone"), "mixed_kind"),
    ],
)
def test_a_peer_that_is_not_what_it_says_or_belongs_elsewhere_is_refused_by_name(
    group: MfaGroup, master: MfaServer, hello: Hello, reason: str
) -> None:
    files = group.authority.issue("mfa2", "mfa2", LOOPBACK)
    code, details = refused(channel_to(master, group.authority.ca, files), message_bytes(hello))
    assert (code, details) == (grpc.StatusCode.PERMISSION_DENIED, reason)
    assert counted(master, reason) == 1


@pytest.mark.parametrize(
    ("request_bytes", "reason"),
    [
        (b"", "replication_length"),
        (struct.pack("!BB", 2, 1) + b"{}", "replication_version"),
        (struct.pack("!BB", 1, 99), "replication_kind"),
        (struct.pack("!BB", 1, 1) + b"[" * 50_000, "replication_table"),
        (struct.pack("!BB", 1, 1) + b" " * 100_000, "replication_length"),
        (message_bytes(WRITE), "replication_unexpected"),
    ],
)
def test_a_first_word_that_is_none_is_refused(
    group: MfaGroup, master: MfaServer, request_bytes: bytes, reason: str
) -> None:
    files = group.authority.issue("mfa2", "mfa2", LOOPBACK)
    code, details = refused(channel_to(master, group.authority.ca, files), request_bytes)
    assert (code, details) == (grpc.StatusCode.PERMISSION_DENIED, reason)
    assert counted(master, reason) == 1


def test_a_forged_write_changes_nothing(group: MfaGroup, master: MfaServer) -> None:
    files = group.authority.issue("mfa3", "mfa3", LOOPBACK)
    with channel_to(master, group.authority.ca, files) as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/mfalb.Replication/Write")
        with pytest.raises(grpc.RpcError) as refusal:
            method(message_bytes(WRITE), timeout=10)
    assert isinstance(refusal.value, grpc.Call)
    assert refusal.value.details() == "forged_name"
    assert "mallory" not in master.users()


def test_a_slave_that_says_what_cannot_be_is_counted_and_no_write_waits_for_it(
    group: MfaGroup, master: MfaServer
) -> None:
    words: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    nonsense = {
        "applied_beyond": message_bytes(Applied(2**62)),
        "applied_backwards": message_bytes(Applied(0)),
        "replication_unexpected": message_bytes(Heartbeat(1)),
        "replication_kind": struct.pack("!BB", 1, 99),
    }
    flood = 500
    files = group.authority.issue("mfa2", "mfa2", LOOPBACK)
    with channel_to(master, group.authority.ca, files) as channel:
        method: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/mfalb.Replication/Follow")
        stream = method(iter(words.get, b"the end"))
        for word in (message_bytes(HELLO), *(one for one in nonsense.values() for _ in range(flood))):
            words.put(word)
        wait_until(lambda: counted(master, "replication_kind") == flood, "all of it to be counted")
        assert {reason: counted(master, reason) for reason in nonsense} == dict.fromkeys(nonsense, flood)
        assert master.status()["slaves"] == {"mfa2": {"sent": 1, "applied": 1, "is_in_step": False}}
        assert master.call("AddUser", user="carol", phone="1").is_good
        told = {type(read_message_untrusted(next(stream))) for _ in range(4)}
        assert {Welcome, Heartbeat} <= told, "it is still told what there is"
        words.put(message_bytes(Applied(2)))
        wait_until(lambda: bool(master.status()["slaves"]["mfa2"]["is_in_step"]), "what makes sense to be believed")
        words.put(b"the end")
        wait_until(lambda: not master.status()["slaves"]["mfa2"]["is_in_step"], "that nothing more will be said of it")
        stream.cancel()
    wait_until(lambda: master.status()["slaves"] == {}, "the peer to have gone")


def test_noise_at_the_replication_port_is_counted_and_harms_nobody(group: MfaGroup, master: MfaServer) -> None:
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 1000, b""):
        with socket.create_connection((LOOPBACK, master.rpc_port), timeout=10) as peer:
            peer.sendall(noise)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass
    wait_until(lambda: counted(master, "handshake") >= 2, "the noise to be counted")
    slave = group.start("mfa2")
    slave.wait_for("slave")


def test_grpc_s_own_port_serves_nobody_who_did_not_come_through_the_door(group: MfaGroup, master: MfaServer) -> None:
    inner = [port for port in _listening(master.program.pid) if port not in _public(master)]
    assert len(inner) == 1
    channel = grpc.insecure_channel(f"{LOOPBACK}:{inner[0]}")
    assert refused(channel, message_bytes(HELLO)) == (grpc.StatusCode.PERMISSION_DENIED, "forged_name")


def _public(server: MfaServer) -> set[int]:
    return {server.rpc_port, server.control.port, server.settings.sdk.port}


def _listening(pid: int) -> list[int]:
    """The TCP ports on which a process listens, as the kernel tells them."""
    inodes = set(sockets_of(pid).values())
    rows = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().split("\n")
    ]
    return [int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 9 and row[3] == "0A" and row[9] in inodes]


# ------------------------------------------------------------------------------------ activation


def test_a_mixed_group_is_refused_and_the_server_says_why(group: MfaGroup, master: MfaServer) -> None:
    server = group.add(group.settings("mfa2", kind=ServerKind.STANDALONE))
    group.run(server)
    wait_until(lambda: bool(server.status()["refusal"]), "the cloud to refuse it")
    assert "mixed group" in server.status()["refusal"]
    assert server.status()["role"] == "not activated"
    assert "mixed group" in server.program.log()
    assert master.status()["role"] == "master"


def test_a_server_with_a_wrong_activation_code_answers_every_sign_in_with_not_activated(group: MfaGroup) -> None:
    server = group.add(with_group(group.settings("mfa1"), activation_code="guessed"))
    group.run(server)
    wait_until(lambda: bool(server.status()["refusal"]), "the cloud to refuse it")
    for name in ("alice", "nobody"):
        answer = server.call("PfAuthUser_4", username=name)
        assert not answer.is_good
        assert answer.texts["Description"] == "This server is not activated."
    assert server.call("AddUser", user="carol", phone="1").texts["Description"] == "This server is not activated."
    assert "guessed" not in server.program.log()


def test_a_server_that_starts_before_the_cloud_is_activated_when_the_cloud_is_there(group: MfaGroup) -> None:
    group.cloud.stop()
    server = group.start("mfa1")
    wait_until(lambda: "cloud MFA Service away" in server.program.log(), "the server to miss the cloud")
    assert server.call("PfAuthUser_4", username="alice").texts["Description"] == "This server is not activated."
    group.cloud.forget_log()
    group.cloud.start()
    server.wait_for("master")
    assert server.call("PfAuthUser_4", username="alice").is_good


def test_an_activated_server_that_starts_without_the_cloud_is_activated_but_takes_no_writes_yet(
    group: MfaGroup, master: MfaServer
) -> None:
    master.kill()
    group.cloud.stop()
    master.start()
    assert master.status()["role"] == "master"
    answer = master.call("AddUser", user="carol", phone="1")
    assert answer.texts["Description"] == "The master server cannot be reached.", "another one may have been promoted"
    assert "not available" in master.call("PfAuthUser_4", username="alice").texts["Description"]
    assert master.call("ValidatePassword", username="alice", password="password-of-alice").is_good
