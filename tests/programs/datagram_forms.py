"""Both forms of datagram sockets, for scenarios that have to come out the same."""

from __future__ import annotations

from typing import Final

import pytest

from mfalb.net.datagram_form import PLAIN_VARIABLE
from programs.process import Launch

_LAUNCHES: Final = {"batched": Launch(), "plain": Launch(environment={PLAIN_VARIABLE: "1"})}

# Gives a test `launch`, how its balancer is to be started
on_both_forms = pytest.mark.parametrize("launch", _LAUNCHES.values(), ids=_LAUNCHES.keys())
