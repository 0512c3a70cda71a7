"""A replication group of real MFA Servers with a real cloud MFA Service, each a process that can be killed.

    with MfaGroup(run_dir) as group:
        mfa1 = group.start("mfa1")
        mfa1.call("AddUser", user="alice", phone="+1 555 0101")

Ports are the same in every life of a server, as they are in a deployment.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from xml.sax.saxutils import escape

import apsw

from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.files import write_settings
from mfalb.reference.config.mfa_server import GroupSettings, MfaServerSettings, RadiusSettings, ServerKind
from mfalb.reference.config.values import Account, Endpoint, Method, User
from mfalb.reference.mfa_server.data.pfdata import content_digest
from mfalb.wire.soap import read_envelope_untrusted
from programs.certificates import Authority, CertificateFiles
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Logged, Program, wait_until

GROUP: Final = "headquarters"
ACTIVATION_CODE: Final = "activation-code-of-the-group"
ACCOUNT: Final = Account("CONTOSO\\svc-mfa", "password-of-the-service")
SDK_PATH: Final = "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
USERS: Final = (
    User("alice", "password-of-alice", "+1 555 0101"),
    User("bob", "password-of-bob", "+1 555 0102", Method.PHONE_CALL),
)
_TIMEOUT_S: Final = 30.0


class NoAnswer(Exception):  # noqa: N818 - says what happened
    """The server is not there, or went away; what was asked of it may or may not have been done."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An SDK answer: texts by element name."""

    texts: Mapping[str, str]
    method: str

    @property
    def is_good(self) -> bool:
        return self.texts[f"{self.method}Result"] == "true"

    @property
    def code(self) -> int:
        """The error's code; in an answer of PfAuthUser_4 the call result's comes before it and is what this is."""
        return int(self.texts["Code"])


class MfaServer:
    """One MFA Server of a group: its settings, and whatever life it is in."""

    def __init__(self, settings: MfaServerSettings, run_dir: Path, environment: Mapping[str, str]) -> None:
        assert settings.group is not None
        assert settings.control is not None
        self.settings: Final = settings
        self.data: Final = Path(settings.group.data)
        self.rpc_port: Final = settings.group.rpc.port
        self.control: Final = settings.control
        self.settings_file: Final = run_dir / f"{settings.name}.json"
        write_settings(self.settings_file, settings)
        argv = [sys.executable, "-m", "mfalb", "reference", "mfa-server", "-c", str(self.settings_file)]
        launch = Launch(environment=environment, ready_deadline_s=60.0)
        self.program: Final = Program(settings.name, argv, run_dir, ready=Logged("ready {"), launch=launch)

    @property
    def name(self) -> str:
        return self.settings.name

    def start(self) -> None:
        if self.program.out_path.exists():
            self.program.out_path.write_bytes(b"")  # the log goes on, the word "ready" is said anew
        self.program.start()

    def learn(self, newcomers: Sequence[User]) -> None:
        """Begin anew with more users in the directory; the group's data is that of the first life."""
        self.program.stop()
        self.settings_file.unlink()
        write_settings(self.settings_file, replace(self.settings, users=(*self.settings.users, *newcomers)))
        self.start()

    def kill(self) -> None:
        """SIGKILL: what is on its disk is all that is left of it."""
        self.program.kill()

    def call(self, operation: str, **texts: str) -> Answer:
        """One SDK call. Raises NoAnswer."""
        arguments = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in texts.items())
        body = f"<Envelope><Body><{operation}>{arguments}</{operation}></Body></Envelope>".encode()
        headers = {"Authorization": ACCOUNT.authorization, "Content-Type": "text/xml; charset=utf-8"}
        status, answer = _ask(self.settings.sdk.port, "POST", SDK_PATH, body, headers)
        assert status == 200, answer
        return Answer(read_envelope_untrusted(answer).texts, operation)

    def status(self) -> dict[str, Any]:
        """Its `/status.json`, with the digest of its data. Raises NoAnswer."""
        _, answer = _ask(self.control.port, "GET", "/status.json?digest=1", None, {})
        status: dict[str, Any] = json.loads(answer)
        return status

    def set_faults(self, **switches: float | bool) -> None:
        headers = {"Content-Type": "application/json"}
        status, answer = _ask(self.control.port, "POST", "/faults", json.dumps(switches).encode(), headers)
        assert status == 200, answer

    def operator(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`mfalb reference WORDS -c FILE`."""
        argv = [sys.executable, "-m", "mfalb", "reference", *words, "-c", str(self.settings_file)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)

    def wait_for(self, role: str, *, epoch: int = 1) -> None:
        """Until the server is that in its group, and (a slave) has once had all that its master has."""

        def is_there() -> bool:
            status = self.status()
            is_level = status["lag"] is None or status["lag"]["seconds"] is not None
            return (status["role"], status["epoch"]) == (role, epoch) and status["is_master_reached"] and is_level

        wait_until(is_there, f"{self.name} to be {role} of epoch {epoch}", deadline_s=_TIMEOUT_S)

    def wait_until_confirmed(self) -> None:
        """Until the cloud has confirmed what this server is, whether or not it reaches its master."""
        wait_until(lambda: bool(self.status()["is_confirmed_by_cloud"]), f"{self.name} to be confirmed")

    def users(self) -> set[str]:
        """The names in its file; of a server that runs or has ended."""
        return {str(name) for (name,) in _read(self.data, "SELECT name FROM users")}

    def digest(self) -> str:
        db = apsw.Connection(str(self.data), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return content_digest(db)
        finally:
            db.close()


class MfaGroup:
    """The cloud, the authority of the group's certificates, and the servers that were started; a context manager."""

    def __init__(self, run_dir: Path, *, poll_s: float = 0.3, kept_changes: int = 10_000) -> None:
        self.run_dir: Final = run_dir
        self.authority: Final = Authority(run_dir / "tls", "authority of the group")
        self.servers: Final[dict[str, MfaServer]] = {}
        self._poll_s = poll_s
        self._kept_changes = kept_changes
        self._stack = ExitStack()
        self._cloud_port = free_tcp_port()
        settings = CloudSettings(
            endpoint=Endpoint(LOOPBACK, self._cloud_port),
            answer_delay_s=0.05,
            activation_codes=(ACTIVATION_CODE,),
            state=str(run_dir / "cloud-groups.json"),
        )
        write_settings(run_dir / "cloud.json", settings)
        argv = [sys.executable, "-m", "mfalb", "reference", "cloud", "-c", str(run_dir / "cloud.json")]
        self.cloud: Final = Program(
            "cloud", argv, run_dir, ready=Logged("ready {"), launch=Launch(ready_deadline_s=60.0)
        )

    def __enter__(self) -> Self:
        self.cloud.start()
        self._stack.callback(self.cloud.stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if kind is None:
            for server in self.servers.values():
                log = server.program.log()
                assert "Traceback" not in log, f"{server.name}:\n{log[-4000:]}"
                secrets = (ACTIVATION_CODE, ACCOUNT.password, *(user.password for user in USERS))
                assert not [secret for secret in secrets if secret in log], f"a secret is in the log of {server.name}"

    @property
    def cloud_url(self) -> str:
        return f"http://{LOOPBACK}:{self._cloud_port}"

    def codes(self, user: str) -> list[str]:
        """The codes that were texted to a user, newest first."""
        _, answer = _ask(self._cloud_port, "GET", "/outbox.json", None, {})
        return [text["otp"] for text in json.loads(answer) if text["user"] == user]

    def settings(
        self, name: str, *, kind: ServerKind = ServerKind.DOMAIN_JOINED, certificate: CertificateFiles | None = None
    ) -> MfaServerSettings:
        """Settings of a server of this group, on ports of its own."""
        files = certificate or self.authority.issue(name, name, LOOPBACK, "localhost")
        group = GroupSettings(
            name=GROUP,
            activation_code=ACTIVATION_CODE,
            data=str(self.run_dir / name / "PhoneFactor.pfdata"),
            rpc=Endpoint(LOOPBACK, free_tcp_port(), str(files.cert), str(files.key)),
            ca=str(self.authority.ca),
            kind=kind,
            kept_changes=self._kept_changes,
            poll_s=self._poll_s,
        )
        (self.run_dir / name).mkdir()
        return MfaServerSettings(
            name=name,
            cloud_url=self.cloud_url,
            sdk=Endpoint(LOOPBACK, free_tcp_port()),
            radius=RadiusSettings(Endpoint(LOOPBACK), "127.0.0.0/8", "radius-secret"),
            account=ACCOUNT,
            users=USERS,
            group=group,
            control=Endpoint(LOOPBACK, free_tcp_port()),
        )

    def add(self, settings: MfaServerSettings, environment: Mapping[str, str] | None = None) -> MfaServer:
        """A server that has not begun to run."""
        server = self.servers[settings.name] = MfaServer(settings, self.run_dir, environment or {})
        return server

    def run(self, server: MfaServer) -> None:
        """Start a server that ends with the group."""
        server.start()
        self._stack.callback(server.program.stop)

    def start(self, name: str) -> MfaServer:
        server = self.add(self.settings(name))
        self.run(server)
        return server

    def pair(self, newcomers: Sequence[User] = ()) -> tuple[MfaServer, MfaServer]:
        """A master, and a slave that follows it. `newcomers` are in the directory and not in the group's data."""
        master = self.start("mfa1")
        master.wait_for("master")
        if newcomers:
            master.learn(newcomers)
            master.wait_for("master")
        slave = self.add(replace(self.settings("mfa2"), users=(*USERS, *newcomers)))
        self.run(slave)
        slave.wait_for("slave")
        return master, slave


def with_group(settings: MfaServerSettings, **changes: Any) -> MfaServerSettings:
    """The same server with another place in its group."""
    assert settings.group is not None
    return replace(settings, group=replace(settings.group, **changes))


def are_level(*servers: MfaServer) -> bool:
    """Whether running servers have the same data at the same position."""
    statuses = [server.status() for server in servers]
    return len({(status["position"]["sequence"], status["digest"]) for status in statuses}) == 1


def wait_until_level(*servers: MfaServer) -> None:
    wait_until(lambda: are_level(*servers), "the servers to have the same data", deadline_s=_TIMEOUT_S)


def _read(path: Path, query: str) -> list[tuple[Any, ...]]:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(db.execute(query))
    finally:
        db.close()


def _ask(port: int, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
    connection = HTTPConnection(LOOPBACK, port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException) as error:
        raise NoAnswer(type(error).__name__) from None
    finally:
        connection.close()
