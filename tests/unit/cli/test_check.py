import base64
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import mfalb
from mfalb.cli import command_line

GOOD = """\
listeners:
  - {name: web, protocol: http, bind: ["127.0.0.1:8080"], routes: [{pool: web}]}
  - {name: two, protocol: http, bind: ["127.0.0.1:8081"], routes: [{pool: web}]}
pools:
  web:
    backends: [{name: a, address: "10.0.0.1:80"}]
    health_check: {type: http}
"""
UNWISE = f"{GOOD}admin: {{bind: '0.0.0.0:9300'}}\n"
EXPOSED = "bind: status and metrics have no authentication; bind them to 127.0.0.1 or keep others out by firewall"
LOUD = "level: 'loud' is not one of debug, info, warning, error"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(), arguments)


@pytest.mark.parametrize(
    ("text", "exit_code", "lines"),
    [
        (GOOD, 0, ["{file}: ok (2 listeners, 1 pool)"]),
        (UNWISE, 0, [f"{{file}}:8:15: warning: {EXPOSED}", "{file}: ok (2 listeners, 1 pool)"]),
        (f"{GOOD}log: {{level: loud}}\n", 1, [f"{{file}}:8:14: error: {LOUD}", "{file}: 1 error"]),
        (
            f"{UNWISE}log: {{level: loud}}\n",
            1,
            [f"{{file}}:8:15: warning: {EXPOSED}", f"{{file}}:9:14: error: {LOUD}", "{file}: 1 error, 1 warning"],
        ),
    ],
)
def test_check_prints_each_problem_and_a_summary(tmp_path: Path, text: str, exit_code: int, lines: list[str]) -> None:
    file = tmp_path / "mfalb.yaml"
    file.write_text(text)
    result = run("check", str(file))
    assert result.stdout.splitlines() == [line.replace("{file}", str(file)) for line in lines]
    assert result.exit_code == exit_code


def test_check_prints_one_object_for_machines(tmp_path: Path) -> None:
    file = tmp_path / "mfalb.yaml"
    file.write_text(f"{GOOD}log: {{level: loud}}\n")
    result = run("check", "--json", str(file))
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "file": str(file),
        "ok": False,
        "summary": "1 error",
        "problems": [{"file": str(file), "line": 8, "column": 14, "message": LOUD, "is_error": True}],
    }


def test_check_of_a_missing_file_fails_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "nope.yaml"
    result = run("check", str(file))
    assert result.stdout.startswith(f"{file}:0:0: error: cannot read it: no such file or directory\n")
    assert result.exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["check", "a", "b"],
        ["check", "--hosts", "h", "a"],
        ["check", "--format", "nftables", "a"],
        ["check", "--nope", "a"],
        ["nope"],
        [],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_schema_prints_the_json_schema_of_the_file() -> None:
    result = run("schema")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)["properties"]) == {
        "listeners",
        "pools",
        "workers",
        "admin",
        "tls",
        "log",
        "drain_timeout",
        "pins",
    }


def test_keygen_prints_a_key_that_a_file_may_hold_and_another_one_each_time(tmp_path: Path) -> None:
    first, second = run("keygen").stdout, run("keygen").stdout
    assert first != second
    assert len(base64.b64decode(first.strip(), validate=True)) == 32
    keys = tmp_path / "keys"
    keys.write_text(first + second)
    keys.chmod(0o600)
    file = tmp_path / "mfalb.yaml"
    file.write_text(f"{GOOD}    affinity: {{preset: azure_mfa_portal}}\npins: {{cookie_keys_file: keys}}\n")
    assert run("check", str(file)).stdout == f"{file}: ok (2 listeners, 1 pool)\n"


def test_version_is_printed() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"mfalb {mfalb.__version__}\n")
