"""The web servers behind the HTTPS contenders, and single visits to whoever answers."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bulk import BODY_BYTES
from contenders.nginx import nginx_program
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Program, ProgramFailed

RESPONSE_BYTES: Final = 200
_TIMEOUT_S: Final = 10.0
_CONFIG: Final = """
http {{
    access_log off;
    client_body_temp_path {run_dir}/body;
    proxy_temp_path {run_dir}/proxy;
    fastcgi_temp_path {run_dir}/fastcgi;
    uwsgi_temp_path {run_dir}/uwsgi;
    scgi_temp_path {run_dir}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    server {{
{listens}
        listen {host}:{tls_port} ssl;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        default_type text/plain;
        client_max_body_size 0;
        location = /large {{
            root {run_dir};
        }}
        location = /requests {{
            stub_status;
        }}
        location = /upload {{  # nginx takes the whole body into memory before it goes on to the answer
            client_body_buffer_size 11m;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_pass http://{host}:{port}/;
        }}
        location / {{
            return 200 "{body}";
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Site:
    """Two backends, not yet started: one nginx that answers at both `ports`, and with TLS at `tls_port`.

    The latter is for clients that come without a contender, to see what is the clients' own part.
    """

    program: Program
    ports: tuple[int, ...]
    tls_port: int

    def requests(self) -> int:
        """How many requests both backends have taken so far, this question not counted."""
        connection = http.client.HTTPConnection(LOOPBACK, self.ports[0], timeout=_TIMEOUT_S)
        try:
            connection.request("GET", "/requests")
            said = connection.getresponse().read()
        finally:
            connection.close()
        return int(said.split(b"requests", 1)[1].split()[2]) - 1  # "... requests\n ACCEPTED HANDLED REQUESTS"


def make_site(run_dir: Path, cert: Path, key: Path, cores: frozenset[int]) -> Site:
    """Servers of 200 bytes at any path, of 10 MB at /large, and takers of as much at /upload."""
    ports, tls_port = (free_tcp_port(), free_tcp_port()), free_tcp_port()
    directory = run_dir / "backends"
    directory.mkdir()
    (directory / "large").write_bytes(bytes(BODY_BYTES))
    config = _CONFIG.format(
        run_dir=directory,
        listens="\n".join(f"        listen {LOOPBACK}:{port};" for port in ports),
        host=LOOPBACK,
        port=ports[0],
        tls_port=tls_port,
        cert=cert,
        key=key,
        body="x" * RESPONSE_BYTES,
    )
    return Site(nginx_program("backends", config, directory, Launch(pinned_to_cores=cores)), ports, tls_port)


@contextmanager
def tls_visitor(port: int, context: ssl.SSLContext) -> Iterator[http.client.HTTPSConnection]:
    """A client with a TLS connection of its own, opened by its first request."""
    connection = http.client.HTTPSConnection(LOOPBACK, port, timeout=_TIMEOUT_S, context=context)
    try:
        yield connection
    finally:
        connection.close()


def get(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """The answer to GET /, read to its end and checked. Raises ProgramFailed when it is not the backends'."""
    connection.request("GET", "/")
    response = connection.getresponse()
    body = response.read()
    if response.status != http.client.OK or len(body) != RESPONSE_BYTES:
        raise ProgramFailed(f"the answer is {response.status} with {len(body)} bytes")
    return response


def first_cookie(plain_port: int) -> str | None:
    """The affinity cookie of a first visit, as a browser sends it back; None when none is given."""
    connection = http.client.HTTPConnection(LOOPBACK, plain_port, timeout=_TIMEOUT_S)
    try:
        given = get(connection).getheader("Set-Cookie")
    finally:
        connection.close()
    return given.partition(";")[0] if given else None
