"""RadSec in a configuration: what may be written, what it means, and what is said about mistakes."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from programs.certificates import make_certificate
from unit.balancer.config.config_folder import Folder

from mfalb.balancer.config.models import Config
from mfalb.balancer.config.radius_models import ServiceKind
from mfalb.balancer.config.radsec_models import RADSEC_SECRET, RadsecListener

DIGITS = "00" * 31 + "aF"
TEXT = """\
listeners:
  - name: r
    protocol: radsec
    bind: ["127.0.0.1:2083"]
    tls: {certificates: [{cert: tls/a.crt, key: tls/a.key}], client_ca: tls/ca.pem}
    clients:
      - {name: c, certificate: {dns_name: nas.contoso.com}}
    pool: r
pools:
  r:
    backends: [{name: a, address: "mfa1.contoso.com:2083"}]
    upstream_tls: {ca: tls/ca.pem, cert: tls/a.crt, key: tls/a.key}
    health_check: {type: radius}
    affinity: {preset: radius_challenge}
"""
CLIENT = "{name: c, certificate: {dns_name: nas.contoso.com}}"
UPSTREAM = "upstream_tls: {ca: tls/ca.pem, cert: tls/a.crt, key: tls/a.key}"
CLIENT_KEYS = (
    "accepted: name, certificate, network, secret_file, secret_env, require_message_authenticator, limit_proxy_state, "
    "send_message_authenticator, rate_limit"
)
NO_FINGERPRINT = (
    "is no SHA-256 fingerprint; write 32 bytes in hexadecimal, as 'openssl x509 -noout -fingerprint -sha256 -in FILE' "
    "prints them"
)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    files = make_certificate(tmp_path_factory.mktemp("tls"), "radsec.contoso.com")
    others = make_certificate(tmp_path_factory.mktemp("other"), "other.contoso.com")
    return {
        "a.crt": files.cert.read_bytes(),
        "a.key": files.key.read_bytes(),
        "ca.pem": files.ca.read_bytes(),
        "b.key": others.key.read_bytes(),
    }


@pytest.fixture(autouse=True)
def files(folder: Folder, pem: dict[str, bytes]) -> None:
    folder.environment["SECRET"] = "s" * 16
    for name, content in pem.items():
        folder.write(f"tls/{name}", content)
    folder.write("tls/garbage", "hello")


def replaced(old: str, new: str) -> str:
    assert TEXT.count(old) == 1, f"{old!r} is not in the text exactly once"
    return TEXT.replace(old, new)


def read(folder: Folder, text: str) -> tuple[Config, RadsecListener]:
    config, findings = folder.read(text)
    assert findings == []
    assert config is not None
    (listener,) = config.listeners
    assert isinstance(listener, RadsecListener)
    return config, listener


def test_clients_and_servers_share_the_secret_of_rfc_6614_unless_another_is_given(folder: Folder) -> None:
    config, listener = read(folder, TEXT)
    pool = config.pools["r"]
    assert listener.clients[0].secret.reveal() == b"radsec"
    assert pool.radius_secret(pool.backends[0]) == RADSEC_SECRET
    own = TEXT.replace("{name: c,", "{name: c, secret_env: SECRET,").replace(
        "{name: a,", "{name: a, secret_env: SECRET,"
    )
    config, listener = read(folder, own)
    pool = config.pools["r"]
    shared = pool.radius_secret(pool.backends[0])
    assert shared is not None
    assert (listener.clients[0].secret.reveal(), shared.reveal()) == (b"s" * 16, b"s" * 16)


def test_a_certificate_may_be_told_by_any_of_its_marks_and_by_where_it_comes_from(folder: Folder) -> None:
    clients = (
        "{name: c, network: 10.0.0.0/8, "
        f"certificate: {{dns_name: '*.NAS.contoso.com', common_name: VPN 1, fingerprint: '{DIGITS}'}}}}"
    )
    _, listener = read(folder, replaced(CLIENT, clients))
    certificate = listener.clients[0].certificate
    assert certificate.dns_name == "*.nas.contoso.com"
    assert certificate.common_name == "VPN 1"
    assert certificate.fingerprint == DIGITS.lower()
    assert listener.clients[0].network == ip_network("10.0.0.0/8")


def test_a_fingerprint_may_be_written_as_openssl_prints_it(folder: Folder) -> None:
    printed = ":".join(DIGITS[index : index + 2] for index in range(0, 64, 2)).upper()
    _, listener = read(folder, replaced("dns_name: nas.contoso.com", f"fingerprint: '{printed}'"))
    assert listener.clients[0].certificate.fingerprint == DIGITS.lower()


def test_the_same_limits_as_over_udp_can_be_set_and_those_of_connections_besides(folder: Folder) -> None:
    _, listener = read(folder, TEXT)
    assert (listener.limits.connections, listener.limits.handshake_timeout_s) == (1000, 10.0)
    assert listener.limits.idle_timeout_s == 600.0
    more = (
        "    pool: r\n    in_flight_limit: 700\n    answer_cache: 12s\n    proxy_state_limit: 4\n"
        "    user_limit: {sign_ins: 2}\n    limits: {connections: 5, idle_timeout: 30s, handshake_timeout: 2s}\n"
    )
    _, listener = read(folder, replaced("    pool: r\n", more))
    assert (listener.in_flight_limit, listener.answer_cache_s, listener.proxy_state_limit) == (700, 12.0, 4)
    assert (listener.limits.connections, listener.limits.idle_timeout_s) == (5, 30.0)
    assert listener.user_limit is not None


ERRORS = [
    (CLIENT, "»{name: c}", f"'certificate' is missing; {CLIENT_KEYS}"),
    (CLIENT, "{name: c, certificate: »{}}", "certificate: names nobody; write dns_name, common_name or fingerprint"),
    (
        "nas.contoso.com",
        "»nas contoso",
        "dns_name: 'nas contoso' is no host; write a name (mfa.contoso.com) or an IP address, without a port",
    ),
    ("dns_name: nas.contoso.com", "fingerprint: »abcd", f"fingerprint: 'abcd' {NO_FINGERPRINT}"),
    ("dns_name: nas.contoso.com", "common_name: »''", "common_name: may not be empty"),
    (
        "tls: {certificates: [{cert: tls/a.crt, key: tls/a.key}], client_ca: tls/ca.pem}",
        "»tls: {certificates: [{cert: tls/a.crt, key: tls/a.key}]}",
        "'client_ca' is missing; accepted: client_ca, certificates",
    ),
    (
        "client_ca: tls/ca.pem",
        "client_ca: »tls/garbage",
        "client_ca: '{folder}/tls/garbage' holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
    ),
    (
        "client_ca: tls/ca.pem",
        "client_ca: »tls/nope",
        "client_ca: cannot read '{folder}/tls/nope': no such file or directory",
    ),
    (
        CLIENT,
        f"{CLIENT}\n      - {{name: d, certificate: »{{dns_name: NAS.contoso.com}}}}",
        "certificate: 'dns_name nas.contoso.com' is the client's on line 7 already, who would always come first",
    ),
    (
        CLIENT,
        f"{CLIENT}\n      - {{name: »c, certificate: {{dns_name: b.contoso.com}}}}",
        "name: client 'c' is defined on line 7 already; choose another",
    ),
    (
        UPSTREAM,
        "upstream_tls: »{ca: tls/ca.pem, cert: tls/a.crt}",
        "upstream_tls: 'cert' is of no use without 'key'; write both or neither",
    ),
    (
        UPSTREAM,
        "upstream_tls: »{ca: tls/ca.pem, key: tls/a.key}",
        "upstream_tls: 'key' is of no use without 'cert'; write both or neither",
    ),
    (
        UPSTREAM,
        "upstream_tls: {cert: tls/a.crt, key: »tls/b.key}",
        (
            "key: '{folder}/tls/b.key' is not the key of '{folder}/tls/a.crt'; whose key it is must come first among "
            "the certificates in a file"
        ),
    ),
    (
        '{name: a, address: "mfa1.contoso.com:2083"}]\n    ' + UPSTREAM,
        '»{name: a, address: "mfa1.contoso.com:2083", require_message_authenticator: true}]',
        "backend 'a' takes RADIUS and needs 'secret_file' or 'secret_env'",
    ),
    ("type: radius}", "type: »http}", "type: pool 'r' takes RADIUS, which http cannot check; write radius"),
]


@pytest.mark.parametrize(("old", "new", "message"), ERRORS)
def test_a_mistake_is_pointed_at(folder: Folder, old: str, new: str, message: str) -> None:
    folder.expect(replaced(old, new), "error: " + message.replace("{folder}", str(folder.path)))


def test_radsec_and_http_cannot_share_an_address_but_radius_over_udp_can(folder: Folder) -> None:
    other = '  - {name: web, protocol: http, bind: [»"127.0.0.1:2083"], routes: [{pool: w}]}\npools:\n'
    pool = '  w: {backends: [{name: a, address: "10.0.0.1:80"}], health_check: {type: http}}\n'
    folder.expect(
        replaced("pools:\n", other) + pool,
        "error: bind: TCP address '127.0.0.1:2083' is bound on line 4 already; an address serves one listener",
    )
    udp = (
        '  - name: u\n    protocol: radius\n    bind: ["127.0.0.1:2083"]\n'
        "    clients: [{name: c, network: 10.0.0.0/8, secret_env: SECRET}]\n    pool: r\npools:\n"
    )
    assert folder.findings(replaced("pools:\n", udp)) == []


def test_one_certificate_may_be_two_clients_by_where_it_comes_from(folder: Folder) -> None:
    both = "\n      - ".join(
        f"{{name: {name}, network: {network}, certificate: {{common_name: nas}}}}"
        for name, network in (("c", "10.0.0.0/8"), ("d", "10.1.0.0/16"))
    )
    assert folder.findings(replaced(CLIENT, both)) == []


def test_without_a_certificate_of_its_own_the_balancer_will_be_refused_which_is_told(folder: Folder) -> None:
    folder.expect(
        replaced(UPSTREAM, "»upstream_tls: {ca: tls/ca.pem}"),
        "warning: upstream_tls: RadSec servers want to see a certificate (RFC 6614 section 2.3); write the balancer's "
        "'cert' and 'key'",
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("type: radius}", "type: tcp}"),
        (CLIENT, CLIENT.replace("{name: c,", "{name: c, require_message_authenticator: false,")),
    ],
)
def test_what_would_be_unwise_over_udp_is_fine_over_tls(folder: Folder, old: str, new: str) -> None:
    """TLS shows that somebody listens, and nobody on the way can forge what it carries."""
    assert folder.findings(replaced(old, new)) == []


# ------------------------------------------------------------------------- accounting on the same connections

BOTH = (
    TEXT.replace("    pool: r\n", "    pool: r\n    accounting_pool: records\n")
    + f"""\
  records:
    backends: [{{name: a, address: "mfa1.contoso.com:2083"}}]
    {UPSTREAM}
    health_check: {{type: radius}}
    affinity: {{type: radius_session, follows: r}}
"""
)
ACCOUNTING_ERRORS = [
    (
        "accounting_pool: records",
        "accounting_pool: »recodrs",
        "accounting_pool: there is no pool 'recodrs'; defined: r, records; did you mean 'records'?",
    ),
    (
        "pool: r\n    accounting_pool: records",
        "pool: r\n    service: dynamic_authorization\n    »accounting_pool: records",
        ("accounting_pool: this adds accounting to authentication, and here is dynamic_authorization; remove it"),
    ),
    (
        "pool: r\n    accounting_pool: records",
        "pool: r\n    service: accounting\n    »accounting_pool: records",
        "accounting_pool: this adds accounting to authentication, and here is accounting; remove it",
    ),
    (
        "accounting_pool: records",
        "accounting_pool: »r",
        (
            "accounting_pool: 'r' is there for authentication already; accounting has another port and needs a pool of "
            "its own"
        ),
    ),
    (
        "type: radius_session, follows: r",
        "type: »radius_state",
        (
            "affinity: pool 'records' takes RADIUS accounting, which has no radius_state affinity; write type: "
            "radius_session"
        ),
    ),
    (
        "type: radius_session, follows: r",
        "type: radius_session, follows: »records",
        "follows: no listener for authentication leads to pool 'records'",
    ),
    (
        f"{UPSTREAM}\n    health_check: {{type: radius}}\n    affinity: {{type: radius_session",
        f"{UPSTREAM}\n    health_check: {{type: »http}}\n    affinity: {{type: radius_session",
        "type: pool 'records' takes RADIUS, which http cannot check; write radius",
    ),
]


def test_accounting_on_the_same_connections_has_a_pool_that_may_follow_the_sign_ins(folder: Folder) -> None:
    _, listener = read(folder, BOTH)
    assert listener.pools == {ServiceKind.AUTHENTICATION: "r", ServiceKind.ACCOUNTING: "records"}
    assert next(iter(listener.pools)) is listener.service
    _, alone = read(folder, TEXT)
    assert alone.pools == {ServiceKind.AUTHENTICATION: "r"}


@pytest.mark.parametrize(("old", "new", "message"), ACCOUNTING_ERRORS)
def test_what_does_not_fit_the_accounting_pool_is_an_error_at_its_place(
    folder: Folder, old: str, new: str, message: str
) -> None:
    assert BOTH.count(old) == 1, f"{old!r} is not in the text exactly once"
    marked = BOTH.replace(old, new)
    before, _, after = marked.partition("»")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    errors = [finding for finding in folder.findings(before + after) if ": error: " in finding]
    assert errors[0] == f"{line}:{column}: error: {message}"  # what follows from a fault may be told after it


def test_a_client_must_be_called_alike_where_its_records_follow_its_sign_ins(folder: Folder) -> None:
    other = (
        '  - name: u\n    protocol: radius\n    bind: ["127.0.0.1:1812"]\n'
        "    clients: [{name: d, network: 10.0.0.0/8, secret_env: SECRET}]\n    pool: u\npools:\n"
    )
    pool = (
        '  u:\n    backends: [{name: a, address: "10.0.0.1:1812", secret_env: SECRET, '
        "require_message_authenticator: true}]\n"
        "    health_check: {type: radius}\n    affinity: {preset: radius_challenge}\n"
    )
    text = BOTH.replace("pools:\n", other).replace("follows: r", "follows: u").replace("name: c,", "name: »c,") + pool
    folder.expect(
        text,
        "warning: name: no client 'c' signs in at pool 'u', so nothing follows its sessions; give a NAS the same name "
        "everywhere: d",
    )


def test_an_http_pool_is_none_for_accounting(folder: Folder) -> None:
    web = '  - {name: web, protocol: http, bind: ["127.0.0.1:8080"], routes: [{pool: w}]}\npools:\n'
    pool = '  w: {backends: [{name: a, address: "10.0.0.1:80"}], health_check: {type: http}}\n'
    more = replaced("    pool: r\n", "    pool: r\n    accounting_pool: »w\n").replace("pools:\n", web) + pool
    folder.expect(more, "error: accounting_pool: 'w' takes HTTP from a route already; RADIUS needs a pool of its own")


def test_a_server_for_accounting_needs_its_secret_over_udp(folder: Folder) -> None:
    folder.expect(
        replaced("    pool: r\n", "    pool: r\n    accounting_pool: plain\n")
        + '  plain:\n    backends: [»{name: a, address: "10.0.0.1:1813"}]\n    health_check: {type: radius}\n',
        "error: backend 'a' takes RADIUS and needs 'secret_file' or 'secret_env'",
    )
