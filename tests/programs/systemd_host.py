"""A host of its own, whose systemd (the installed one) runs our units as they are shipped.

    with SystemdHost(run_dir) as host, host.network():
        host.install_package()
        host.install(UNITS / "mfalb.service", "/etc/systemd/system")
        host.systemctl("start", "mfalb")

It is this machine's kernel and programs in namespaces: process ids, mounts, cgroups, network, IPC and its name are its
own. /etc is a layer over this machine's; /run, /tmp, /opt and what lies in /var are empty at first, /dev has harmless
devices only, and what sysctl sets can be read only. It knows no units but the journal, empty targets and what is
installed by us: nothing that is done there reaches this machine. It takes root, and cgroups of version 2 in the kernel.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import mfalb
from programs.balancer import children_of
from programs.host_network import entered
from programs.process import Launch, Program, ProgramFailed, find_program, wait_until

UNITS: Final = Path(__file__).parents[2] / "conf" / "systemd"
_SYSTEMD: Final = Path("/lib/systemd/systemd")
_TIMEOUT_S: Final = 90.0
_VENV: Final = "/opt/mfalb/.venv"

# In the new namespaces. The cgroup has to be its own before the cgroup namespace is made, and that before the mount.
_BEGIN: Final = """
mount --make-rprivate /
mount -t cgroup2 none "$CGROUPS"
mkdir "$CGROUPS/$CGROUP"
echo 0 >"$CGROUPS/$CGROUP/cgroup.procs"
umount "$CGROUPS"
exec unshare --cgroup sh -euc "$FURNISH"
"""
_FURNISH: Final = """
ip link set lo up
umount --recursive /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
for place in /run /opt /var/lib /var/log /var/tmp /var/cache; do mount -t tmpfs -o mode=755 none "$place"; done
cd /run
mkdir etc work units generators dev
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work none /etc
mount -t tmpfs -o mode=755 none dev
mkdir dev/pts dev/shm
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty dev/
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount --move dev /dev
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys

# Python as if it were installed where a service may read it: homes are hidden from ours
mkdir -p /opt/mfalb/python /opt/mfalb/packages
mount --bind -o ro "$PYTHON" /opt/mfalb/python
mount --bind -o ro "$PACKAGES" /opt/mfalb/packages
echo /opt/mfalb/python/lib >/etc/ld.so.conf.d/mfalb.conf
ldconfig
useradd --system --home-dir /var/lib/mfalb --shell /usr/sbin/nologin mfalb
mount -t tmpfs -o mode=1777 none /tmp

for name in sysinit basic shutdown network-online nss-lookup sockets multi-user; do
    printf '[Unit]\\nDefaultDependencies=no\\n' >"units/$name.target"
done
journal=systemd-journald
printf "Wants=$journal.socket $journal.service\\nAfter=$journal.service\\n" >>units/sysinit.target
printf '[Journal]\\nStorage=volatile\\nAudit=no\\nReadKMsg=no\\nForwardToWall=no\\n' >/etc/systemd/journald.conf
cat >units/systemd-journald.socket <<END
[Unit]
DefaultDependencies=no
[Socket]
ListenDatagram=/run/systemd/journal/socket
ListenStream=/run/systemd/journal/stdout
PassCredentials=yes
SocketMode=0666
END
cat >units/systemd-journald.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=notify
ExecStart=/lib/systemd/systemd-journald
StandardOutput=null
Sockets=systemd-journald.socket
FileDescriptorStoreMax=4224
END
mkdir -p /etc/systemd/system
mount -t tmpfs -o mode=755 none /etc/systemd/system
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/units \
    SYSTEMD_GENERATOR_PATH=/run/generators SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/generators \
    SYSTEMD_LOG_TARGET=journal-or-kmsg /lib/systemd/systemd --system --unit=multi-user.target --show-status=no
"""
_REMOVE_CGROUP: Final = """
mount -t cgroup2 none "$1" || exit 0
[ ! -d "$1/$2" ] || find "$1/$2" -depth -type d -exec rmdir {} +
"""


class SystemdHost(Program):
    """The host, from its boot to its end at once; a context manager. Process ids are those that it knows itself."""

    def __init__(self, run_dir: Path) -> None:
        if not _SYSTEMD.exists():
            raise ProgramFailed("systemd is not installed: run `sh .ci/need test`")
        if os.geteuid() != 0:
            raise ProgramFailed("a host with a systemd of its own takes root")
        self._cgroup = f"mfalb-test-{os.getpid()}-{secrets.token_hex(4)}"
        self._cgroups = run_dir / "cgroups"
        environment = {
            "CGROUPS": str(self._cgroups),
            "CGROUP": self._cgroup,
            "FURNISH": _FURNISH,
            "PYTHON": sys.base_prefix,
            "PACKAGES": sysconfig.get_path("purelib"),
        }
        namespaces = ("--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc", "--net", "--ipc", "--uts")
        super().__init__(
            "systemd",
            ["unshare", *namespaces, "sh", "-euc", _BEGIN],
            run_dir,
            ready=lambda _: self._is_up(),
            launch=Launch(environment=environment, ready_deadline_s=30.0),
        )

    def _is_up(self) -> bool:
        if not (children_of(self.pid) and self.path("/run/systemd/private").exists()):
            return False
        said = self.run("systemctl", "is-system-running", may_fail=True)
        return said.strip() == "running"

    def start(self) -> None:
        self._cgroups.mkdir(parents=True)
        super().start()

    def stop(self) -> int:
        """At once, and all that runs there; nothing is left of it."""
        if self.is_running():
            self.kill()  # and with it the first process of the namespace, which takes all the others along
        code = super().stop()
        command = ["unshare", "--mount", "sh", "-euc", _REMOVE_CGROUP, "sh", str(self._cgroups), self._cgroup]
        wait_until(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, "an empty cgroup")
        return code

    # ------------------------------------------------------------------------------ what is there

    @property
    def _systemd(self) -> int:
        """The process id of systemd, outside."""
        (pid,) = children_of(self.pid)
        return pid

    def path(self, there: str) -> Path:
        """A file of the host, for us. It takes a symbolic link for one of ours."""
        return Path(f"/proc/{self._systemd}/root{there}")

    @contextmanager
    def network(self) -> Iterator[None]:
        """What this thread opens, and programs and threads that it starts, are in the host's network meanwhile."""
        with entered(Path(f"/proc/{self._systemd}/ns/net")):
            yield

    def run(self, *words: str, may_fail: bool = False) -> str:
        """What a command prints there."""
        command = [find_program("nsenter"), "--target", str(self._systemd), "--all", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        assert may_fail or done.returncode == 0, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def verb(self, *words: str) -> str:
        """What a verb of the installed program prints."""
        return self.run(f"{_VENV}/bin/mfalb", *words)

    # ------------------------------------------------------------------------------ what is installed

    def install(self, source: Path, folder: str) -> Path:
        """A copy of a file, for everybody to read."""
        there = self.path(folder)
        there.mkdir(parents=True, exist_ok=True)
        copy = Path(shutil.copyfile(source, there / source.name))
        copy.chmod(0o644)
        return copy

    def write(self, there: str, text: str) -> None:
        """A file that root and the group mfalb read; it is there as a whole at once."""
        path = self.path(there)
        path.parent.mkdir(parents=True, exist_ok=True)
        group = int(self.run("id", "--group", "mfalb"))
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(text, "utf-8")
        for one, mode in ((path.parent, 0o750), (fresh, 0o640)):
            os.chown(one, 0, group)
            one.chmod(mode)
        fresh.rename(path)

    def install_package(self, version: str = mfalb.__version__) -> None:
        """`/opt/mfalb/.venv` with mfalb of this version, and with what it needs; in the place of another one."""
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site, program = self.path(f"{_VENV}/lib/{python}/site-packages"), self.path(f"{_VENV}/bin/mfalb")
        package = site / "mfalb"
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(Path(mfalb.__file__).parent, package)
        initial = package / "__init__.py"
        initial.write_text(initial.read_text("utf-8").replace(f'"{mfalb.__version__}"', f'"{version}"'), "utf-8")
        (site / "needed.pth").write_text("/opt/mfalb/packages\n")
        config = f"home = /opt/mfalb/python/bin\nversion = {sys.version.split()[0]}\n"
        self.path(f"{_VENV}/pyvenv.cfg").write_text(config)
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{_VENV}/bin/python3\nimport sys\nfrom mfalb.cli import main\nsys.exit(main())\n")
        program.chmod(0o755)
        self.run("ln", "--symbolic", "--force", f"/opt/mfalb/python/bin/{python}", f"{_VENV}/bin/python3")
        self.run("chmod", "--recursive", "a+rX", "/opt/mfalb/.venv")

    # ------------------------------------------------------------------------------ systemd

    def systemctl(self, verb: str, *units: str) -> None:
        """It has to succeed."""
        self.run("systemctl", verb, *units)

    def shown(self, unit: str, *properties: str) -> dict[str, str]:
        """What systemctl shows of a unit."""
        said = self.run("systemctl", "show", unit, "--property", ",".join(properties))
        return dict(line.split("=", 1) for line in said.splitlines())

    def main_pid(self, unit: str) -> int:
        return int(self.shown(unit, "MainPID")["MainPID"])

    def processes(self, unit: str) -> list[int]:
        """All processes in the unit's cgroup."""
        group = self.shown(unit, "ControlGroup")["ControlGroup"]
        listed = self.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs", may_fail=True) if group else ""
        return [int(pid) for pid in listed.split()]

    def signal_main(self, unit: str, number: signal.Signals) -> None:
        """As README says."""
        self.run("systemctl", "kill", "--kill-whom=main", f"--signal={number.name}", unit)

    def journal(self, unit: str) -> list[dict[str, Any]]:
        """What the journal has of a unit, systemd's own words included."""
        said = self.run("journalctl", "--no-pager", "--output=json", "--unit", unit)
        return [json.loads(line) for line in said.splitlines()]

    def journal_text(self, unit: str) -> str:
        return "\n".join(str(one.get("MESSAGE")) for one in self.journal(unit))
