"""The limit is a process's own, so each test has one."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import resource
from mfalb.net.descriptors import allow_many_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, 512))
print(allow_many_descriptors(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits_after(soft: int) -> list[int]:
    script = SCRIPT.format(soft=soft)
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [int(word) for word in finished.stdout.split()]


def test_as_many_descriptors_are_allowed_as_may_be() -> None:
    assert limits_after(100) == [512, 512, 512]


def test_nothing_is_changed_where_all_are_allowed_already() -> None:
    assert limits_after(512) == [512, 512, 512]
