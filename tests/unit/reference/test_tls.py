from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from programs.certificates import Authority

from mfalb.reference.config.values import Endpoint
from mfalb.reference.tls import client_context, server_context


def test_who_must_and_who_may_show_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("sdk", "localhost")
    pair = (str(files.cert), str(files.key))
    plain, mutual = Endpoint("127.0.0.1", 0, *pair), Endpoint("127.0.0.1", 0, *pair, str(authority.ca))
    contexts = [server_context(plain), server_context(plain, str(authority.ca)), server_context(mutual)]
    wanted = [ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED]
    assert [context.verify_mode for context in contexts if context is not None] == wanted
    assert server_context(Endpoint()) is None
    assert client_context(str(authority.ca), *pair).verify_mode is ssl.CERT_REQUIRED


def test_a_file_that_is_not_there_or_no_pem_is_named(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no PEM")
    with pytest.raises(ValueError, match=r"nowhere\.pem with nowhere\.key: No such file"):
        server_context(Endpoint("127.0.0.1", 0, "nowhere.pem", "nowhere.key"))
    with pytest.raises(ValueError, match=r"nowhere\.pem: No such file"):
        client_context("nowhere.pem")
    with pytest.raises(ValueError, match=r"junk\.pem"):
        client_context(str(junk))
    with pytest.raises(ValueError, match="without TLS nobody can show one"):
        server_context(Endpoint(), "ca.pem")
