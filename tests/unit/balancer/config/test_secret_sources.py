import base64
from pathlib import Path

import pytest
from unit.balancer.config.config_folder import LISTENERS, POOLS, Folder

from mfalb.balancer.config.radius_models import RadiusListener
from mfalb.balancer.config.secret_sources import read_file
from mfalb.balancer.config.values import Secret

LONG = "correct horse battery"
KEYS = [base64.b64encode(bytes([number]) * 32).decode() for number in range(3)]


def radius(client: str) -> str:
    return f"""\
listeners:
  - {{name: r, protocol: radius, bind: ["127.0.0.1:1812"], pool: r,
     clients: [{{name: c, network: 10.0.0.0/8, {client}}}]}}
pools:
  r:
    backends: [{{name: a, address: "10.0.0.1:1812", secret_env: LONG, require_message_authenticator: true}}]
    health_check: {{type: radius}}
    affinity: {{preset: radius_challenge}}
"""


@pytest.fixture
def radius_folder(folder: Folder) -> Folder:
    folder.environment.update(LONG=LONG, SHORT="hunter2", EMPTY="\n")
    folder.write("long", LONG + "\r\n")
    folder.write("open", LONG, mode=0o644)
    folder.write("group", LONG, mode=0o640)
    folder.write("short", "hunter2")
    folder.write("empty", "\n")
    folder.write("large", "x" * 70_000)
    return folder


def client_secret(folder: Folder, source: str) -> Secret:
    config, findings = folder.read(radius(source))
    assert config is not None, findings
    listener = config.listeners[0]
    assert isinstance(listener, RadiusListener)
    return listener.clients[0].secret


@pytest.mark.parametrize("source", ["secret_file: long", "secret_file: ./group", "secret_env: LONG"])
def test_a_secret_comes_from_a_file_or_the_environment_without_its_newline(radius_folder: Folder, source: str) -> None:
    assert client_secret(radius_folder, source).reveal() == LONG.encode()
    assert radius_folder.findings(radius(source)) == []


def test_an_absolute_path_is_taken_as_it_is(radius_folder: Folder) -> None:
    assert client_secret(radius_folder, f"secret_file: {radius_folder.path / 'long'}").reveal() == LONG.encode()


SHORT = "the secret is shorter than 16 bytes and can be guessed from one captured packet; use a long random one"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "secret: »hunter2",
            "error: secret: a secret does not stand in this file; write 'secret_file: path' or 'secret_env: NAME'",
        ),
        ("secret_file: long, secret_env: »LONG", "error: secret_env: 'secret_file' is set already; keep one of them"),
        ("»secret_file: ", "error: secret_file: must be text: a path"),
        ("secret_file: »5", "error: secret_file: must be text: a path"),
        ("secret_env: »[a]", "error: secret_env: must be text: the name of a variable"),
        ("secret_file: »nowhere", "error: secret_file: cannot read '{folder}/nowhere': no such file or directory"),
        ("secret_file: ».", "error: secret_file: cannot read '{folder}': it is no regular file"),
        ("secret_file: »large", "error: secret_file: cannot read '{folder}/large': it is larger than 64 KiB"),
        ('secret_file: »"a\\0b"', "error: secret_file: cannot read '{folder}/a\\x00b': it is no path"),
        ("secret_file: »empty", "error: secret_file: 'empty' is empty; put the secret there"),
        ("secret_env: »EMPTY", "error: secret_env: 'EMPTY' is empty; put the secret there"),
        ("secret_env: »GONE", "error: secret_env: the environment has no variable 'GONE'; set it where mfalb starts"),
        ("secret_env: »p4ss-w0rd", "error: secret_env: this is no variable's name; write the name, not the secret"),
        ("secret_file: »short", f"warning: secret_file: {SHORT}"),
        ("secret_env: »SHORT", f"warning: secret_env: {SHORT}"),
        ("secret_file: »open", "warning: secret_file: '{folder}/open' is open to every user; run: chmod o-rwx open"),
    ],
)
def test_a_bad_source_is_pointed_at_without_showing_the_secret(
    radius_folder: Folder, source: str, message: str
) -> None:
    radius_folder.expect(radius(source), message.replace("{folder}", str(radius_folder.path)))


def test_a_client_without_a_secret_is_told_both_ways_to_name_one(radius_folder: Folder) -> None:
    findings = radius_folder.findings(radius("require_message_authenticator: true"))
    assert len(findings) == 1
    assert findings[0].startswith(
        "3:16: error: 'secret_file' or 'secret_env' is missing; accepted: name, network, secret_file"
    )


def cookies(source: str) -> str:
    return f"{LISTENERS}{POOLS}    affinity: {{preset: azure_mfa_portal}}\npins: {{{source}}}\n"


def test_cookie_keys_stand_one_a_line_with_comments_and_keep_their_order(folder: Folder) -> None:
    folder.write("keys", f"# new on top\n{KEYS[0]}\n\n  {KEYS[1]}  # old\n")
    config, findings = folder.read(cookies("cookie_keys_file: keys"))
    assert findings == []
    assert config is not None
    assert [key.reveal() for key in config.pins.cookie_keys] == [bytes(32), b"\x01" * 32]


def test_cookie_keys_may_come_from_the_environment(folder: Folder) -> None:
    folder.environment["KEYS"] = "\n".join(KEYS)
    config, findings = folder.read(cookies("cookie_keys_env: KEYS"))
    assert findings == []
    assert config is not None
    assert len(config.pins.cookie_keys) == 3


FRESH = "'mfalb keygen' prints a fresh line"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# none\n", "has no key; 'mfalb keygen' prints one"),
        (f"{KEYS[0]}\nhunter2\nhunter3\n", f"line 2 of the keys is not 32 bytes in base64; {FRESH}"),
        ("aGVsbG8=\n", f"line 1 of the keys is not 32 bytes in base64; {FRESH}"),
        (f"{KEYS[0]}\n{KEYS[1]}\n{KEYS[0]}\n", f"line 3 of the keys repeats an earlier one; {FRESH}"),
    ],
)
def test_bad_cookie_keys_are_told_by_their_line(folder: Folder, content: str, message: str) -> None:
    folder.write("keys", content)
    folder.expect(cookies("cookie_keys_file: »keys"), f"error: cookie_keys_file: {message}")


def test_a_directory_is_no_file_to_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="it is no regular file"):
        read_file(tmp_path)
