"""A real OpenLDAP directory in its own run directory: slapd with a few people, over ldap, StartTLS and ldaps."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from programs.certificates import CertificateFiles
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Program, find_program

BASE: Final = "dc=contoso,dc=test"
SERVICE_DN: Final = f"cn=reader,{BASE}"
SERVICE_PASSWORD: Final = "password-of-the-service-account"

_CONFIG: Final = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {run}/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {ca}
TLSCertificateFile {cert}
TLSCertificateKeyFile {key}
disallow bind_anon
database mdb
suffix "{base}"
directory {run}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{service}" read by * none
"""


_SERVICE: Final = "objectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\n"


def _ldif(people: Mapping[str, str]) -> str:
    entries = [
        f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: Contoso\ndc: contoso\n",
        f"dn: {SERVICE_DN}\n{_SERVICE}userPassword: {SERVICE_PASSWORD}\n",
        f"dn: ou=people,{BASE}\nobjectClass: organizationalUnit\nou: people\n",
    ]
    entries += [
        f"dn: uid={name},ou=people,{BASE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: {name}\n"
        f"userPassword: {password}\n"
        for name, password in people.items()
    ]
    return "\n".join(entries)


class Slapd(Program):
    """The directory; `people` are names and passwords."""

    def __init__(self, run_dir: Path, people: Mapping[str, str], certificate: CertificateFiles) -> None:
        self.port: Final = free_tcp_port()
        self.tls_port: Final = free_tcp_port()
        (run_dir / "data").mkdir(parents=True)
        config = run_dir / "slapd.conf"
        files = {"ca": certificate.ca, "cert": certificate.cert, "key": certificate.key}
        config.write_text(_CONFIG.format(run=run_dir, base=BASE, service=SERVICE_DN, **files))
        loaded = subprocess.run(
            [find_program("slapadd"), "-f", str(config)],
            input=_ldif(people),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert loaded.returncode == 0, loaded.stderr
        urls = f"ldap://{LOOPBACK}:{self.port} ldaps://{LOOPBACK}:{self.tls_port}"
        argv = ["slapd", "-f", str(config), "-h", urls, "-d", "0"]
        super().__init__("slapd", argv, run_dir, ready=lambda _: self._answers(), launch=Launch(ready_deadline_s=30))

    def _answers(self) -> bool:
        who = [find_program("ldapwhoami"), "-x", "-H", f"ldap://{LOOPBACK}:{self.port}"]
        asked = subprocess.run(
            [*who, "-D", SERVICE_DN, "-w", SERVICE_PASSWORD], capture_output=True, timeout=20, check=False
        )
        return asked.returncode == 0
