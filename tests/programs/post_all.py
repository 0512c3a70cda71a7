"""Posts many bodies at once, each on a connection of its own, from wherever it is started.

Run as a program: post_all.py URL USER PASSWORD, with a JSON list of bodies as its standard input. Prints a JSON list of
what was answered; "" where nothing was.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import requests

_AT_ONCE: Final = 8
_PATIENCE_S: Final = 20


def posted(body: str) -> str:
    try:
        answer = requests.post(
            sys.argv[1],
            data=body,
            headers={"Content-Type": "text/xml"},
            auth=(sys.argv[2], sys.argv[3]),
            timeout=_PATIENCE_S,
        )
    except requests.RequestException:
        return ""
    return answer.text


def main() -> None:
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        json.dump(list(threads.map(posted, json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
