"""Promise: the access log survives its rotation: renamed, then SIGHUP, and no line is lost or written twice."""

from __future__ import annotations

import http.client
import signal
from pathlib import Path

import pytest
from programs.balancer import Balancer
from programs.http_backend import HttpBackend
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import wait_until
