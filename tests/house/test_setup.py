"""The way from a bare machine to a running test: .ci/need, the lock and the Makefile keep their promises."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEED = ROOT / ".ci" / "need"
SOAK = ROOT / ".ci" / "soak"
SCRIPTS = [NEED, SOAK, ROOT / ".ci" / "run"]
LOCK = (ROOT / ".ci" / "requirements.lock").read_text("utf-8")
SCANNER_LOCK = (ROOT / ".ci" / "sslyze.lock").read_text("utf-8")
PRIVACYIDEA_LOCK = (ROOT / ".ci" / "privacyidea.lock").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PURPOSES = ["bench", "compiled", "demo", "test", "venv"]


@pytest.fixture
def bare_machine(tmp_path: Path) -> dict[str, str]:
    """An environment where no package is installed and apt-get, given by each test, is all that could change that."""
    put_program(tmp_path, "dpkg-query", "exit 1")
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "POLICY_RC_D": str(tmp_path / "policy-rc.d")}


def put_program(directory: Path, name: str, body: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
    path.chmod(0o755)


def need(purpose: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(NEED), purpose], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_shell_scripts_pass_shellcheck() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:  # `sh .ci/need test` installs it; a machine that only runs `make check` may lack it
        for script in SCRIPTS:
            subprocess.run(["bash" if script.name == "run" else "sh", "-n", str(script)], check=True)
        return
    subprocess.run([shellcheck, *map(str, SCRIPTS)], check=True)


def soak(length_s: str, directory: Path, body: str) -> subprocess.CompletedProcess[str]:
    """.ci/soak with a pytest that notes what it was asked for, and then does `body`."""
    given = "|".join(
        f"${{{name}:-}}"
        for name in (
            "FUZZ_PACKETS",
            "SOAK_KILLS_S",
            "SOAK_CHAOS_S",
            "SOAK_REPLICATION_KILLS",
            "RELOAD_SOAK_S",
            "CAPACITY_CONNECTIONS",
        )
    )
    note = f'echo "{given}|$*" >> {directory}/asked'
    put_program(directory, "pytest", f"{note}\n{body}")
    command = ["sh", str(SOAK), length_s, str(directory / "pytest")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_a_soak_gives_its_length_to_each_part_and_ends_in_time(tmp_path: Path) -> None:
    begun_at = time.monotonic()
    finished = soak("6", tmp_path, "sleep 0.5")
    assert time.monotonic() - begun_at < 20
    assert finished.returncode == 0, finished.stderr
    asked = (tmp_path / "asked").read_text("utf-8").splitlines()
    assert asked[:7] == [
        "15000||||||-q -x tests/scenarios/test_radius_fuzz.py",
        "|2|||||-q -x tests/scenarios/test_radius_soak.py",
        "||1||||-q -x tests/scenarios/test_http_chaos.py",
        "|||3|||-q -x tests/scenarios/test_mfa_replication.py",
        "||||5||-q -x tests/scenarios/test_reload_under_load.py",
        "|5|||||-q -x tests/scenarios/test_worker_killed.py",
        "|||||10000|-q -x tests/scenarios/test_http_capacity.py",
    ]
    files = len(asked) - 7
    assert 1 <= files <= 15
    said = f"soak: 15000 wrong packets, 2 s of killing, 1 s of chaos, {files} files of tests/scenarios passed\n"
    assert finished.stdout == said


def test_a_soak_ends_with_the_first_failure(tmp_path: Path) -> None:
    finished = soak("60", tmp_path, 'case "$*" in *soak.py) exit 1 ;; esac')
    assert finished.returncode != 0
    assert len((tmp_path / "asked").read_text("utf-8").splitlines()) == 2


@pytest.mark.parametrize("length_s", ["", "0", "-1", "ten"])
def test_a_soak_without_a_length_says_how_it_is_used(tmp_path: Path, length_s: str) -> None:
    finished = soak(length_s, tmp_path, "")
    assert finished.returncode == 2
    assert finished.stderr.startswith("usage: ")


def test_as_root_missing_packages_are_installed_while_services_are_forbidden_to_start(
    bare_machine: dict[str, str], tmp_path: Path
) -> None:
    put_program(tmp_path, "id", "echo 0")
    put_program(
        tmp_path, "apt-get", f'echo "$@" >> {tmp_path}/said; "$POLICY_RC_D"; echo "policy $?" >> {tmp_path}/said'
    )
    finished = need("test", bare_machine)
    said = (tmp_path / "said").read_text("utf-8")
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"^install .*freeradius", said, re.MULTILINE)
    assert said.count("policy 101") == 2, "services may start during apt-get"
    assert not (tmp_path / "policy-rc.d").exists(), "the ban on services outlives the installation"


def test_a_failed_installation_fails_and_lifts_the_ban_on_services(
    bare_machine: dict[str, str], tmp_path: Path
) -> None:
    put_program(tmp_path, "id", "echo 0")
    put_program(tmp_path, "apt-get", "exit 100")
    finished = need("bench", bare_machine)
    assert finished.returncode == 1
    assert "haproxy" in finished.stderr
    assert not (tmp_path / "policy-rc.d").exists()


def test_a_policy_that_was_there_before_is_left_alone(bare_machine: dict[str, str], tmp_path: Path) -> None:
    put_program(tmp_path, "id", "echo 0")
    put_program(tmp_path, "apt-get", "exit 0")
    put_program(tmp_path, "policy-rc.d", "exit 104")
    assert need("test", bare_machine).returncode == 0
    assert "exit 104" in (tmp_path / "policy-rc.d").read_text("utf-8")


def test_without_root_it_says_what_to_install_and_fails_except_for_the_demo(
    bare_machine: dict[str, str], tmp_path: Path
) -> None:
    put_program(tmp_path, "id", "echo 1000")
    put_program(tmp_path, "sudo", "exit 1")
    put_program(tmp_path, "apt-get", "exit 0")
    test, demo = need("test", bare_machine), need("demo", bare_machine)
    assert (test.returncode, demo.returncode) == (1, 0)
    assert "apt-get install" in test.stderr
    assert "eapoltest" in test.stderr
    assert "goes on" in demo.stderr


@pytest.mark.parametrize("purpose", PURPOSES)
def test_nothing_is_installed_when_nothing_is_missing(
    purpose: str, bare_machine: dict[str, str], tmp_path: Path
) -> None:
    answer = 'shift 2; for package in "$@"; do printf "installed:%s " "$package"; done'
    put_program(tmp_path, "dpkg-query", answer)
    put_program(tmp_path, "apt-get", f"touch {tmp_path}/was-called; exit 1")
    assert need(purpose, bare_machine).returncode == 0
    assert not (tmp_path / "was-called").exists()


def test_a_python_that_is_too_old_is_refused_by_name(bare_machine: dict[str, str], tmp_path: Path) -> None:
    put_program(
        tmp_path, "python3.9", 'case "$*" in *ensurepip*) exit 0;; --version) echo "Python 3.9.2";; *) exit 1;; esac'
    )
    finished = need("venv", {**bare_machine, "PYTHON": "python3.9"})
    assert finished.returncode == 1
    assert "3.11 or newer" in finished.stderr
    assert "Python 3.9.2" in finished.stderr


def test_an_unknown_purpose_is_refused(bare_machine: dict[str, str]) -> None:
    assert need("everything", bare_machine).returncode == 2


@pytest.mark.parametrize("lock", [LOCK, SCANNER_LOCK, PRIVACYIDEA_LOCK], ids=["ours", "the scanner's", "privacyIDEA's"])
def test_a_lock_pins_with_hashes_and_names_no_index(lock: str) -> None:
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", lock)
    requirements = re.findall(r"^[a-zA-Z0-9][^\n]*", lock, re.MULTILINE)
    assert requirements
    assert [line for line in requirements if not re.match(r"[\w.-]+(\[[\w,-]+\])?==", line)] == []
    assert len(re.findall(r"^    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)) >= len(requirements)


def test_the_lock_holds_every_dependency_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    names = {re.split(r"[\[><=~! ]", one)[0].replace(".", "-") for one in wanted}
    locked = set(re.findall(r"^([\w.-]+)", LOCK, re.MULTILINE))
    assert names - locked == set(), "run `make lock`"


def test_the_makefile_has_the_promised_targets() -> None:
    assert {"demo", "test", "check", "bench", "soak", "format", "lock", "clean"} <= TARGETS
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == TARGETS


def test_every_make_command_of_the_readme_exists() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"(?:^|`)\s*make ([a-z-]+)", readme, re.MULTILINE))
    assert {"demo", "test"} <= named, "the README does not say how to try and to test it"
    assert named <= TARGETS


def test_every_file_the_makefile_runs_exists() -> None:
    named = re.findall(r"(?:\$\(BIN\)/python|sh) ((?:\.ci|bench)/[\w./-]+)", MAKEFILE)
    assert named
    assert [path for path in named if not (ROOT / path).is_file()] == []
