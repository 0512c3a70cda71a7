from __future__ import annotations

from pathlib import Path

import pytest

from mfalb.balancer.config.flows import traffic
from mfalb.balancer.config.loader import check_without_files
from mfalb.flows.values import Call, Caller, Comers, Door, Spot, Traffic, Transport

WEB = """\
listeners:
  - name: web
    protocol: https
    bind: ["0.0.0.0:443", "[2001:db8::1]:443"]
    tls: {certificates: [{cert: none.crt, key: none.key}]}
    routes: [{host: mfa.contoso.com, pool: web}, {host: mfa.contoso.com, path: /app, pool: web}]
    proxy_protocol: {from: [10.0.9.0/24]}
  - {name: plain, protocol: tcp, bind: ["10.0.3.10:25"], routes: [{pool: web}]}
  - {name: named, protocol: tcp, bind: ["10.0.3.10:444"], routes: [{sni: sts.contoso.com, pool: web}]}
pools:
  web:
    backends:
      - {name: a, address: "10.0.1.13:8443"}
      - name: b
        address: "portal2.contoso.com:8443"
"""
RADIUS = """\
listeners:
  - name: radius
    protocol: radius
    bind: ["10.0.1.10:1812"]
    clients:
      - {name: vpn, network: 10.0.5.0/24, secret_file: nowhere}
      - {name: wifi, network: 10.0.6.7, secret_env: NOT_SET_ANYWHERE}
    pool: auth
  - name: coa
    protocol: radius
    service: dynamic_authorization
    bind: ["10.0.1.10:3799"]
    clients: [{name: mfa1, network: 10.0.1.11, secret_file: nowhere}]
    pool: nases
  - name: secure
    protocol: radsec
    bind: ["10.0.1.10:2083"]
    tls: {certificates: [{cert: none.crt, key: none.key}], client_ca: none.pem}
    clients:
      - {name: branch, network: 10.0.7.0/24, certificate: {dns_name: branch.contoso.com}}
      - {name: anywhere, certificate: {dns_name: else.contoso.com}}
    pool: over-tls
    accounting_pool: records
pools:
  auth: {backends: [{name: mfa1, address: "10.0.1.11:1812", secret_file: nowhere}]}
  nases: {backends: [{name: vpn, address: "10.0.5.1:3799", secret_file: nowhere, nas: {}}]}
  over-tls: {backends: [{name: mfa1, address: "10.0.1.11:2083"}], upstream_tls: {ca: none.pem}}
  records: {backends: [{name: mfa1, address: "10.0.1.11:1813", secret_file: nowhere}]}
"""
ANY = Comers.AS_BEHIND


def read(folder: Path, text: str) -> Traffic:
    file = folder / "balancer.yaml"
    file.write_text(text)
    config, document, problems = check_without_files(file)
    assert config is not None, [str(problem) for problem in problems]
    assert document is not None
    return traffic(config, document)


def doors(told: Traffic) -> list[Door]:
    """Without the status page, which is on loopback by default."""
    return [door for door in told.doors if door.spot != Spot("127.0.0.1", 9300)]


def test_stream_listeners_are_doors_for_whom_their_backends_are(tmp_path: Path) -> None:
    leads_to = (Spot("10.0.1.13", 8443), Spot("portal2.contoso.com", 8443))
    networks = ("10.0.9.0/24",)
    header = "load balancers with PROXY protocol"
    assert doors(read(tmp_path, WEB)) == [
        Door(Spot("0.0.0.0", 443), "https for mfa.contoso.com", 4, ANY, leads_to=leads_to * 2),
        Door(Spot("0.0.0.0", 443), header, 7, Comers.ALLOWED, networks),
        Door(Spot("2001:db8::1", 443), "https for mfa.contoso.com", 4, ANY, leads_to=leads_to * 2),
        Door(Spot("2001:db8::1", 443), header, 7, Comers.ALLOWED, networks),
        Door(Spot("10.0.3.10", 25), "TCP passed through for plain", 8, ANY, leads_to=leads_to),
        Door(Spot("10.0.3.10", 444), "TLS passed through for sts.contoso.com", 9, ANY, leads_to=leads_to),
    ]


def test_backends_are_called_for_others_at_the_line_of_their_address(tmp_path: Path) -> None:
    assert read(tmp_path, WEB).calls == (
        Call(Spot("10.0.1.13", 8443), "pool web", 13, Caller.FOR_OTHERS),
        Call(Spot("portal2.contoso.com", 8443), "pool web", 15, Caller.FOR_OTHERS),
    )


def test_radius_listeners_are_doors_for_their_clients_alone(tmp_path: Path) -> None:
    def door(port: int, purpose: str, line: int, *networks: str, transport: Transport = Transport.UDP) -> Door:
        return Door(Spot("10.0.1.10", port, transport), purpose, line, Comers.ALLOWED, networks)

    assert doors(read(tmp_path, RADIUS)) == [
        door(1812, "RADIUS of vpn", 6, "10.0.5.0/24"),
        door(1812, "RADIUS of wifi", 7, "10.0.6.7/32"),
        door(3799, "RADIUS dynamic authorization of mfa1", 13, "10.0.1.11/32"),
        door(2083, "RADIUS over TLS of branch", 20, "10.0.7.0/24", transport=Transport.TCP),
        door(2083, "RADIUS over TLS of anywhere", 21, transport=Transport.TCP),
    ]


def test_radius_goes_to_backends_by_datagrams_but_for_tls(tmp_path: Path) -> None:
    assert [(call.purpose, call.to) for call in read(tmp_path, RADIUS).calls] == [
        ("pool auth", Spot("10.0.1.11", 1812, Transport.UDP)),
        ("pool nases", Spot("10.0.5.1", 3799, Transport.UDP)),
        ("pool over-tls", Spot("10.0.1.11", 2083)),
        ("pool records", Spot("10.0.1.11", 1813, Transport.UDP)),
    ]


@pytest.mark.parametrize(
    ("store", "purpose"),
    [
        ('addresses: ["10.0.2.11:6379"]', "shared pins"),
        ('addresses: ["10.0.2.11:6379"], sentinel: mfalb', "shared pins (and to the servers that it names)"),
        ('addresses: ["10.0.2.11:6379"], cluster: true', "shared pins (and to the servers that it names)"),
    ],
)
def test_the_store_of_shared_pins_is_called(tmp_path: Path, store: str, purpose: str) -> None:
    told = read(tmp_path, f"{WEB}pins: {{store: {{type: valkey, {store}}}}}\n")
    assert told.calls[-1] == Call(Spot("10.0.2.11", 6379), purpose, 16)


def test_the_status_page_is_a_door_with_the_line_that_opens_it(tmp_path: Path) -> None:
    told = read(tmp_path, f"{WEB}admin: {{bind: '10.0.9.1:9300'}}\n")
    expected = Door(Spot("10.0.9.1", 9300), "status and metrics, with no authentication", 16, Comers.ALLOWED)
    assert told.doors[-1] == expected


def test_secrets_are_not_asked_for_wherever_they_should_come_from(tmp_path: Path) -> None:
    inline = RADIUS.replace("secret_env: NOT_SET_ANYWHERE", "secret: made-up")
    ring = "pins: {cookie_keys_file: nowhere}\n"
    assert read(tmp_path, inline + ring) == read(tmp_path, RADIUS)


def test_what_is_wrong_with_a_file_itself_is_told_and_what_it_names_need_not_be_there(tmp_path: Path) -> None:
    file = tmp_path / "balancer.yaml"
    file.write_text(WEB.replace("pool: web}, {host", "pool: wbe}, {host"))
    config, document, problems = check_without_files(file)
    assert (config, document) == (None, None)
    assert [str(problem).removeprefix(f"{file}:") for problem in problems] == [
        "6:44: error: pool: there is no pool 'wbe'; defined: web; did you mean 'web'?"
    ]
