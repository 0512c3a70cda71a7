from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mfalb.cli import command_line
from mfalb.cli.flows import FileArgument

BALANCER = """\
listeners:
  - {name: web, protocol: http, bind: ["10.0.3.10:80"], routes: [{pool: web}]}
pools:
  web: {backends: [{name: portal1, address: "10.0.3.21:443"}]}
"""
PORTAL = """\
name: portal1
endpoint: {host: 10.0.3.21, port: 443}
sdk: {url: "https://sdk.contoso.com/", cert: none}
"""
HOSTS = "10.0.3.10 perimeter\n10.0.3.21 portal1\n10.0.1.10 inside sdk.contoso.com\n"
TABLE = """\
FROM                 TO                   PORT     FOR              SETTING
any                  10.0.3.10 perimeter  tcp 80   http for web     {0}/balancer.yaml:2
10.0.3.10 perimeter  10.0.3.21 portal1    tcp 443  pool web         {0}/balancer.yaml:4
10.0.3.21 portal1    10.0.1.10 inside     tcp 443  Web Service SDK  {0}/user-portal.yaml:3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("balancer.yaml", BALANCER), ("user-portal.yaml", PORTAL), ("hosts", HOSTS)):
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    """With the folder's files where an argument says `./`."""
    words = [word.replace("./", f"{folder}/") for word in arguments]
    return CliRunner().invoke(command_line(), ["check", "--flows", *words])


@pytest.mark.parametrize(
    ("text", "host", "kind", "path"),
    [
        ("a/b.yaml", None, None, "a/b.yaml"),
        ("mfa1=b.yaml", "mfa1", None, "b.yaml"),
        ("10.0.1.11=mfa-server:a/b.yaml", "10.0.1.11", "mfa-server", "a/b.yaml"),
        ("balancer:b.yaml", None, "balancer", "b.yaml"),
        ("a=b/c=d.yaml", "a", None, "b/c=d.yaml"),
        ("a/b=c.yaml", None, None, "a/b=c.yaml"),
        ("no-service:b.yaml", None, None, "no-service:b.yaml"),
    ],
)
def test_a_file_may_have_its_host_and_its_service_in_front(
    text: str, host: str | None, kind: str | None, path: str
) -> None:
    assert FileArgument.parse(text) == FileArgument(Path(path), host, kind)


def test_flows_are_a_table_of_all_files_with_names_where_they_are_known(folder: Path) -> None:
    result = run(folder, "--hosts", "./hosts", "./user-portal.yaml", "./balancer.yaml")
    assert result.exit_code == 0, result.output
    table, _, note = result.stdout.rpartition("Not from")
    assert table == TABLE.format(folder)
    assert "VRRP" in note


def test_a_flow_with_several_purposes_has_a_line_for_each(folder: Path) -> None:
    (folder / "two.yaml").write_text(f"{BALANCER}  more: {{backends: [{{name: b, address: '10.0.3.21:443'}}]}}\n")
    lines = run(folder, "./two.yaml").stdout.splitlines()
    assert lines[2].split() == ["10.0.3.10", "10.0.3.21", "tcp", "443", "pool", "web", f"{folder}/two.yaml:4"]
    assert lines[3].split() == ["pool", "more", f"{folder}/two.yaml:5"]


def test_json_has_the_same_flows(folder: Path) -> None:
    flows = json.loads(run(folder, "--json", "--hosts", "./hosts", "./user-portal.yaml", "./balancer.yaml").stdout)
    assert flows["flows"][:2] == [
        {
            "sources": ["any"],
            "destination": "10.0.3.10",
            "transport": "tcp",
            "port": 80,
            "purposes": ["http for web"],
            "settings": [{"file": f"{folder}/balancer.yaml", "line": 2}],
        },
        {
            "sources": ["10.0.3.10"],
            "destination": "10.0.3.21",
            "transport": "tcp",
            "port": 443,
            "purposes": ["pool web"],
            "settings": [{"file": f"{folder}/balancer.yaml", "line": 4}],
        },
    ]
    assert run(folder, "--format", "json", "./balancer.yaml").stdout == run(folder, "--json", "./balancer.yaml").stdout


def test_rules_for_nft_need_an_address_for_every_host(folder: Path) -> None:
    files = ("./user-portal.yaml", "./balancer.yaml")
    without = run(folder, "--format", "nftables", *files)
    assert (without.exit_code, without.stdout) == (1, "")
    assert "no address is known for sdk.contoso.com" in without.stderr
    rules = run(folder, "--format", "nftables", "--hosts", "./hosts", *files)
    assert rules.exit_code == 0
    assert "ip saddr 10.0.3.21 ip daddr 10.0.1.10 tcp dport 443" in rules.stdout


def test_a_host_in_front_of_a_file_is_where_its_service_runs(folder: Path) -> None:
    (folder / "open.yaml").write_text(BALANCER.replace("10.0.3.10", "0.0.0.0"))
    told = run(folder, "./open.yaml").stdout.splitlines()
    assert told[1].split()[:4] == ["any", "host", "of", f"{folder}/open.yaml"]
    told = run(folder, "--hosts", "./hosts", "perimeter=./open.yaml").stdout.splitlines()
    assert told[1].split()[:3] == ["any", "10.0.3.10", "perimeter"]


@pytest.mark.parametrize(
    ("name", "text", "prefix"),
    [
        ("any.yaml", BALANCER, ""),
        ("any.yaml", PORTAL, "user-portal:"),
        ("any.yaml", f"{PORTAL}mobile_app_url: ''\n", ""),
        ("user-portal.yaml", PORTAL, ""),
    ],
)
def test_a_service_is_known_by_its_content_by_its_files_name_or_by_what_is_typed(
    folder: Path, name: str, text: str, prefix: str
) -> None:
    (folder / name).write_text(text)
    result = run(folder, f"{prefix}./{name}")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("any.yaml", PORTAL, "it does not tell which service it is for; write SERVICE:FILE with balancer, mfa-server,"),
        ("user-portal.yaml", "name: a\n", "endpoint: is missing"),
        ("user-portal.yaml", "a: [\n", "line 2: this is not YAML"),
        ("balancer.yaml", BALANCER.replace("http", "gopher"), "balancer.yaml:2:27: error: protocol: 'gopher'"),
    ],
)
def test_what_cannot_be_used_is_told_and_ends_with_1(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    result = run(folder, f"./{name}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


@pytest.mark.parametrize("words", [["./nope.yaml"], ["--hosts", "./nope", "./balancer.yaml"]])
def test_a_missing_file_is_told(folder: Path, words: list[str]) -> None:
    result = run(folder, *words)
    assert result.exit_code == 1
    assert "nope" in result.stderr


def test_hosts_that_are_none_are_told_by_line(folder: Path) -> None:
    (folder / "hosts").write_text("10.0.1.300 mfa1\n")
    result = run(folder, "--hosts", "./hosts", "./balancer.yaml")
    assert result.exit_code == 1
    assert "hosts: line 1 is no line of a hosts file" in result.stderr
