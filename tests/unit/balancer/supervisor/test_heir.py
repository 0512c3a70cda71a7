"""How the next process is started: as this one was."""

from __future__ import annotations

import pytest

from mfalb.balancer.supervisor.heir import heirs_command


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (["python3", "-m", "mfalb", "serve", "-c", "a.yaml"], ["-m", "mfalb", "serve", "-c", "a.yaml"]),
        (["/v/bin/python", "/v/bin/mfalb", "serve", "-c", "a.yaml"], ["/v/bin/mfalb", "serve", "-c", "a.yaml"]),
        (["python3", "-X", "dev", "-m", "mfalb", "serve", "-c", "a"], ["-X", "dev", "-m", "mfalb", "serve", "-c", "a"]),
        (["p", "-m", "mfalb", "serve", "--ready-fd", "5", "-c", "a"], ["-m", "mfalb", "serve", "-c", "a"]),
        (["p", "-m", "mfalb", "serve", "--ready-fd=5", "-c", "a"], ["-m", "mfalb", "serve", "-c", "a"]),
        (["p", "-m", "mfalb", "serve", "-c", "a", "--takeover", "8"], ["-m", "mfalb", "serve", "-c", "a"]),
    ],
)
def test_it_has_the_same_words_but_those_of_one_life(own: list[str], expected: list[str]) -> None:
    assert heirs_command(own, "/new/python", 9) == ["/new/python", *expected, "--takeover", "9"]
