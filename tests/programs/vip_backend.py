"""A backend at an address of another network namespace: says its name over HTTP, and accepts over RADIUS.

Run as a program: vip_backend.py NAME ADDRESS SECRET
"""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from typing import Final

from mfalb.wire import radius

_PROXY_STATE: Final = 33
_HEADER_BYTES: Final = 20
HTTP_PORT: Final = 8000
RADIUS_PORT: Final = 1812


def proxy_states(datagram: bytes) -> bytes:
    """These attributes as they came: an answer has to carry them."""
    found, at = b"", _HEADER_BYTES
    while at + 1 < len(datagram):
        if datagram[at] == _PROXY_STATE:
            found += datagram[at : at + datagram[at + 1]]
        at += datagram[at + 1]
    return found


def serve_radius(address: str, secret: bytes) -> None:
    """For ever: Access-Accept."""
    key = radius.SharedSecret(secret)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, RADIUS_PORT))
        while True:
            datagram, peer = sock.recvfrom(4096)
            states = proxy_states(datagram)
            answer = radius.signed_response(radius.ACCESS_ACCEPT, datagram[1], datagram[4:20], states, key)
            sock.sendto(answer, peer)


class Page(http.server.BaseHTTPRequestHandler):
    """The name, whatever is asked."""

    def do_GET(self) -> None:
        body = sys.argv[1].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    _, _, address, secret = sys.argv
    threading.Thread(target=serve_radius, args=(address, secret.encode()), daemon=True).start()
    with http.server.ThreadingHTTPServer((address, HTTP_PORT), Page) as server:
        print("serving", flush=True)  # noqa: T201 - whoever started it waits for this
        server.serve_forever()


if __name__ == "__main__":
    main()
