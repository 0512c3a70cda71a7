"""The balancer under test: a configuration written, `mfalb serve` run, its metrics read, a clean end asserted."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from prometheus_client.parser import text_string_to_metric_families

from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Program, wait_until

_METRICS_TIMEOUT_S: Final = 5.0
WORKERS = 1  # unless a configuration says something else: with one, turns and limits are exact


@dataclass(frozen=True, slots=True)
class Metrics:
    """One scrape: every sample as (name, labels, value)."""

    samples: tuple[tuple[str, dict[str, str], float], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        families = text_string_to_metric_families(text)
        return cls(tuple((one.name, dict(one.labels), one.value) for family in families for one in family.samples))

    def total(self, name: str, /, **labels: str) -> float:
        """The sum of the samples of this name that carry these labels. Raises KeyError when the name is unknown."""
        named = [(found, value) for sample, found, value in self.samples if sample == name]
        if not named:
            raise KeyError(f"no metric {name}; there are {sorted({sample for sample, _, _ in self.samples})}")
        return sum(value for found, value in named if labels.items() <= found.items())


def write_secret(directory: Path, name: str, value: str) -> str:
    """A secret in a file only its owner reads; returns its path, for `secret_file`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(value, "utf-8")
    return str(path)


class Balancer(Program):
    """`mfalb serve` with a configuration given as plain values (without `admin.bind`, which is added here).

    `secrets` are values that must never reach its log; leaving the context asserts that, and a clean exit.
    """

    def __init__(
        self, config: Mapping[str, Any], run_dir: Path, *, secrets: Sequence[str] = (), launch: Launch | None = None
    ) -> None:
        self.config_path: Final = run_dir / "mfalb.yaml"
        self.admin_port: Final = free_tcp_port()
        self._config = self.completed(config)
        self._secrets = secrets
        self._heirs: list[int] = []
        self._ready_fd, self._told_fd = os.pipe()
        given = launch or Launch()
        super().__init__(
            "mfalb",
            [sys.executable, "-m", "mfalb", "serve", "-c", str(self.config_path), "--ready-fd", str(self._told_fd)],
            run_dir,
            ready=lambda _: self._has_said_ready(),
            launch=replace(given, pass_fds=(*given.pass_fds, self._told_fd)),
        )

    def completed(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration with what each has here."""
        return {
            "workers": WORKERS,
            **config,
            "admin": {**config.get("admin", {}), "bind": f"{LOOPBACK}:{self.admin_port}"},
        }

    def hang_up(self) -> None:
        """SIGHUP: the access log was renamed, or there is another configuration."""
        os.kill(self.pid, signal.SIGHUP)

    def _has_said_ready(self) -> bool:
        readable, _, _ = select.select([self._ready_fd], [], [], 0)
        return bool(readable) and os.read(self._ready_fd, 64).startswith(b"ready")

    # ------------------------------------------------------------------------------ another process takes over

    @property
    def pid(self) -> int:
        """Of who serves: not the process that was started, once another one has taken over."""
        return self._heirs[-1] if self._heirs else super().pid

    def replaced_by(self, pid: int) -> None:
        """`mfalb upgrade` has said so."""
        self._heirs.append(pid)

    def stop(self) -> int:
        """As `Program.stop`, whoever serves by now; the code is that of the process that was started."""
        for pid in reversed(self._heirs):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda pid=pid: not is_alive(pid), f"the end of process {pid}")  # type: ignore[misc]
        if self._heirs:  # former processes end with the last one
            with suppress(TimeoutError):
                wait_until(lambda: self.exit_code is not None, "the end of the first process")
        return super().stop()

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers, who are the nursery's children."""
        return [worker for nursery in children_of(self.pid) for worker in children_of(nursery)]

    @property
    def worker(self) -> int:
        """The process id of the only worker."""
        (pid,) = self.workers
        return pid

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes the configuration file; JSON is YAML."""
        self.config_path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")

    def start(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.write_config(self._config)
        try:
            super().start()
        finally:
            for descriptor in (self._ready_fd, self._told_fd):
                os.close(descriptor)

    def __exit__(self, *error: object) -> None:
        code = self.stop()
        if error[0] is None:  # a test that failed already says more than the way the balancer ended
            self.assert_clean(code)

    def assert_clean(self, exit_code: int) -> None:
        """Exit code 0, no traceback, no secret in the log."""
        log = self.log()
        leaked = [number for number, secret in enumerate(self._secrets) if secret in log]
        assert not leaked, f"secrets number {leaked} of those given are in {self.err_path}"
        assert "Traceback" not in log, f"the balancer logged a traceback:\n{self.tail()}"
        assert exit_code == 0, f"the balancer ended with {exit_code}:\n{self.tail()}"

    def get(self, path: str) -> bytes:
        """The body of an admin page. Raises ConnectionError or http.client.HTTPException when there is none."""
        status, body = self._page(path)
        if status != http.client.OK:
            raise http.client.HTTPException(f"GET {path}: {status}")
        return body

    def ready_page(self) -> tuple[int, str]:
        """Status and text of /ready; 0 and nothing while the admin port is closed."""
        try:
            status, body = self._page("/ready")
        except ConnectionError:
            return 0, ""
        return status, body.decode()

    def _page(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(LOOPBACK, self.admin_port, timeout=_METRICS_TIMEOUT_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def backend(self, pool: str, name: str = "b1") -> dict[str, Any]:
        """A backend as the status page shows it. Raises KeyError when there is none."""
        pools: dict[str, list[dict[str, Any]]] = json.loads(self.get("/status"))["pools"]
        return {one["name"]: one for one in pools[pool]}[name]

    def metrics(self) -> Metrics:
        return Metrics.parse(self.get("/metrics").decode())

    def is_answering(self) -> bool:
        """Whether the metrics page is served."""
        with suppress(OSError, http.client.HTTPException):
            return bool(self.get("/metrics"))
        return False


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that nobody has waited for yet does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    return False


def children_of(pid: int) -> list[int]:
    """The process ids of its children."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(child) for child in listed.split()]
