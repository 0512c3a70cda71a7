"""privacyIDEA, an MFA server that nobody here wrote: nodes with databases of their own, and the gateway of their texts.

privacyIDEA keeps challenges in its database. Nodes that share one could answer for one another; ours are a pair whose
databases are replicated too late for a sign-in: what was enrolled is on both, a challenge only where it was triggered.
"""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
import subprocess
import threading
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlencode

from programs.http_pool import Front
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Program

# In an environment of its own (make test sees to it): it pins sixty packages
_BIN: Final = Path(__file__).parents[2] / ".venv/privacyidea/bin"
_KEY_BYTES: Final = 96  # what `pi-manage setup create_enckey` writes: three AES keys
ADMIN: Final = ("admin", "an-administrator-s-password")
REALM: Final = "corp"

_CONFIG: Final = """\
PI_ENCFILE = "{shared}/enckey"
PI_AUDIT_MODULE = "privacyidea.lib.auditmodules.loggeraudit"
PI_AUDIT_NO_SIGN = True
PI_NO_RESPONSE_SIGN = True
PI_UUID_FILE = "{run_dir}/uuid"
PI_LOGFILE = "{run_dir}/privacyidea.log"
PI_HASH_ALGO_PARAMS = {{"argon2__rounds": 1, "argon2__memory_cost": 1024}}
SQLALCHEMY_DATABASE_URI = "sqlite:///{database}"
SECRET_KEY = "signs the tokens of administrators, at both nodes"
PI_PEPPER = "the same at both nodes"

# A database that lives for one test need not survive a loss of power, for which SQLite waits at each commit
from sqlalchemy import engine, event

@event.listens_for(engine.Engine, "connect")
def do_not_wait_for_the_disk(connection, _):
    connection.execute("PRAGMA synchronous = OFF")
"""


class SmsGateway:
    """Takes what privacyIDEA's HTTP provider sends; a context manager. `texts` by phone number, oldest first."""

    def __init__(self) -> None:
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        taken = self.texts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                fields = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                taken[fields["phone"]].append(fields["text"])
                self.send_response(http.client.OK)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="sms-gateway")

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_port}/sms"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class Api:
    """privacyIDEA's REST API behind an address; each call is a connection of its own, without cookies."""

    front: Front
    token: str = ""

    def call(
        self,
        method: str,
        target: str,
        *,
        form: Mapping[str, str] | None = None,
        document: Mapping[str, object] | None = None,
    ) -> Any:
        """The whole answer, of any status. `form` goes as a form, `document` as JSON."""
        headers = {"Authorization": self.token} if self.token else {}
        body = None
        if form is not None:
            body, headers["Content-Type"] = urlencode(form), "application/x-www-form-urlencoded"
        elif document is not None:
            body, headers["Content-Type"] = json.dumps(document), "application/json"
        with closing(self.front.connect()) as connection:
            connection.request(method, target, body, headers)
            return json.loads(connection.getresponse().read())

    def value(self, method: str, target: str, **members: object) -> Any:
        """What an answer that must be good has as its value."""
        answer = self.call(method, target, document=members or None)
        assert answer["result"]["status"], answer["result"]
        return answer["result"]["value"]

    def as_admin(self) -> Api:
        """Signed in as administrator."""
        name, password = ADMIN
        return Api(self.front, self.value("POST", "/auth", username=name, password=password)["token"])


class PrivacyIdea(Program):
    """One node, served by waitress."""

    def __init__(self, name: str, directory: Path) -> None:
        run_dir = directory / name
        self.front: Final = Front(free_tcp_port())
        self.database: Final = run_dir / "privacyidea.sqlite"
        self._shared = directory
        self._environment = {
            "PRIVACYIDEA_CONFIGFILE": str(run_dir / "pi.cfg"),
            "PI_CONFIG_NAME": "production",
        }
        assert (_BIN / "waitress-serve").exists(), "privacyIDEA is not there: make .venv/privacyidea/.ready"
        super().__init__(
            name,
            [
                str(_BIN / "waitress-serve"),
                "--threads=8",
                f"--listen={self.address}",
                "--call",
                "privacyidea.app:create_app",
            ],
            run_dir,
            ready=lambda _: self._is_answering(),
            launch=Launch(environment=self._environment, ready_deadline_s=60.0),
        )

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.front.port}"

    def write_config(self) -> None:
        """The node's configuration, and the key of the pair's secrets if there is none yet."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        key = self._shared / "enckey"
        if not key.exists():
            key.write_bytes(os.urandom(_KEY_BYTES))
            key.chmod(0o400)
        text = _CONFIG.format(shared=self._shared, run_dir=self.run_dir, database=self.database)
        (self.run_dir / "pi.cfg").write_text(text, "utf-8")

    def create_database(self) -> None:
        """Tables and an administrator, by privacyIDEA's own tool."""
        name, password = ADMIN
        for arguments in (["setup", "create_tables"], ["admin", "add", name, "-p", password]):
            subprocess.run(
                [str(_BIN / "pi-manage"), *arguments],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
                check=True,
            )

    def replicate_from(self, other: PrivacyIdea) -> None:
        """Takes the database of another node as it is now, while that one serves."""
        with closing(sqlite3.connect(other.database)) as source, closing(sqlite3.connect(self.database)) as target:
            source.backup(target)

    def audit(self, action: str) -> list[dict[str, Any]]:
        """What the node wrote into its audit log about requests whose method and path begin like this."""
        text = (self.run_dir / "privacyidea.log").read_text("utf-8")
        lines = [line.partition("loggeraudit:")[2].partition("] ")[2] for line in text.splitlines()]
        return [entry for line in lines if line for entry in [json.loads(line)] if entry["action"].startswith(action)]

    def _is_answering(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self.front.get("/healthz/readyz")[0] == http.client.OK
        return False


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a phone who gets one-way texts. `user_pin` is the numeric secret of privacyIDEA's token PIN."""

    name: str
    phone: str
    user_pin: str


def people(count: int) -> list[Person]:
    return [Person(f"user{number}", f"+1555{number:04}", f"pin&of+{number}") for number in range(count)]


def set_up(admin: Api, gateway: SmsGateway, directory: Path, known: list[Person]) -> None:
    """Realm, gateway and policy: a user PIN alone triggers a text."""
    file = directory / "users"
    lines = [
        f"{one.name}:x:{number}:{number}:{one.name}:/nowhere:/bin/false\n" for number, one in enumerate(known, 1000)
    ]
    file.write_text("".join(lines), "utf-8")
    admin.value("POST", "/resolver/people", type="passwdresolver", fileName=str(file))
    admin.value("POST", f"/realm/{REALM}", resolvers="people")
    admin.value("POST", f"/defaultrealm/{REALM}")
    options = {"URL": gateway.url, "HTTP_METHOD": "POST", "phone": "{phone}", "text": "{otp}"}
    module = "privacyidea.lib.smsprovider.HttpSMSProvider.HttpSMSProvider"
    parts = {f"option.{name}": value for name, value in options.items()}
    admin.value("POST", "/smsgateway", name="gateway", module=module, **parts)
    admin.value("POST", "/system/setConfig", **{"sms.identifier": "gateway"})
    action = "challenge_response=sms, smstext={otp}"
    admin.value("POST", "/policy/by_text", scope="authentication", action=action, realm="*", active=True)


def enrol(admin: Api, person: Person) -> str:
    """A token for texts; returns its serial."""
    owner = {"user": person.name, "realm": REALM, "phone": person.phone, "pin": person.user_pin}
    answer = admin.call("POST", "/token/init", document={"type": "sms", "genkey": 1, **owner})
    assert answer["result"]["value"] is True, answer["result"]
    serial: str = answer["detail"]["serial"]
    return serial
