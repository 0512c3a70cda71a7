"""`mfalb demo --topology ha`: the deployment of conf/contoso on this machine."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp

from mfalb.cli.demo_failures import DemoFailed
from mfalb.cli.demo_ha_sign_ins import READ_ONLY, TEXTED, HaSignIns, addresses_of
from mfalb.cli.deployment import CONTOSO, read_deployment
from mfalb.cli.free_ports import LOOPBACK
from mfalb.cli.loopback import on_loopback, users, write
from mfalb.cli.running_deployment import MFA_SERVER, RunningDeployment

MASTER: Final = "mfa1"  # the one that is activated first
SLAVE: Final = "mfa2"
_CHANGED: Final = "Your phone and the way to be asked were changed."
_PHONES: Final = ("+1 555 0111", "+1 555 0101")


class HaDemonstration:
    """Runs the deployment, and shows what it does when servers come and go."""

    def __init__(self, running: RunningDeployment, sign_ins: int) -> None:
        self._running = running
        self._count = sign_ins
        self._people = HaSignIns(running)

    async def sign_in_everywhere(self) -> None:
        """All ways in, with everything up."""
        print("\nSign-ins at AD FS, from the application and back, one-way SMS, while others come and go")
        await self._at_adfs(self._count)
        print("\nOther ways in")
        async with self._people.browser() as browser:
            page = await self._people.portal(browser)
            pages = [(await browser.get(page.url)).served_by for _ in range(4)]
            if set(pages) != {page.served_by}:
                raise DemoFailed(f"the portal's session was at {page.served_by}, and then at {', '.join(pages)}")
            print(f"  User Portal, one-way SMS: signed in at {page.served_by}, and 4 more pages from {page.served_by}")
        halves = await self._people.radius()
        print(f"  RADIUS, one-way SMS: half one on {halves.first}, half two on {halves.second}, accepted")
        print(f"  AD FS, client certificate: taken by {await self._people.device()}, and refused without one")
        print(f"  Mobile App Web Service at {await self._people.app()} reaches the MFA Servers")

    async def lose_and_replace_the_master(self) -> None:
        """What goes on without the master and what does not, and how there is a new one."""
        print(f"\n{MASTER}, the master, is killed (SIGKILL)")
        await self._running.server(MASTER).kill()
        await self._at_adfs(self._count)
        async with self._people.browser() as browser:
            page = await self._people.portal(browser)

            async def is_read_only() -> bool:
                return READ_ONLY in (await browser.get(page.url)).text

            await self._running.until("the portal to say that it is read-only", is_read_only)
            print("  Users sign in at the portal, which is read-only and says so")
        folder = self._running.folder
        await self._command("reference", "promote", "-c", str(folder / SLAVE / f"{MFA_SERVER}.yaml"))
        await self._change_phone(_PHONES[0])
        print(f"\n{MASTER} comes back")
        (service,) = (one for one in self._running.deployment.of_kind(MFA_SERVER) if one.host == MASTER)
        await self._running.start_one(service)
        roles = {host: await self._running.role(host) for host in (MASTER, SLAVE)}
        if roles != {MASTER: "slave", SLAVE: "master"}:
            raise DemoFailed(f"the roles are {roles}")
        print(f"  {MASTER} is a slave now, {SLAVE} stays the master")
        await self._running.until(f"{MASTER} to be up", self._is_master_up)

    async def _is_master_up(self) -> bool:
        return all(one["health"] == "up" for one in (await self._running.pools())["mfa-sdk"])

    async def drain_a_server(self) -> None:
        """Nothing new for one MFA Server, as before an upgrade."""
        configuration = str(self._running.folder / "balancer-inside" / "balancer.yaml")
        print()
        await self._command("drain", f"mfa-sdk/{SLAVE}", "-c", configuration)
        served = await self._at_adfs(self._count)
        if served[SLAVE]:
            raise DemoFailed(f"{SLAVE} was drained, and got {served[SLAVE]} sign-ins")
        await self._command("ready", f"mfa-sdk/{SLAVE}", "-c", configuration)

    async def _at_adfs(self, count: int) -> Counter[str]:
        """So many sign-ins; who served how many. Raises DemoFailed when one half went astray."""
        served, nodes = Counter[str](), Counter[str]()
        reached = crossed = 0
        for _ in range(count):
            signed = await self._people.adfs()
            reached += signed.servers.first == signed.servers.second
            crossed += signed.nodes.first != signed.nodes.second
            served[signed.servers.first] += 1
            nodes.update((signed.nodes.first, signed.nodes.second))
        print(f"  {reached} of {count} second halves reached the MFA Server that had sent the code ({_told(served)})")
        print(f"  {crossed} of {count} had their halves at two different AD FS nodes ({_told(nodes)} pages)")
        if reached != count:
            raise DemoFailed(f"{count - reached} of {count} sign-ins did not come back to their server")
        return served

    async def _change_phone(self, number: str) -> None:
        async with self._people.browser() as browser:
            await self._people.portal(browser)
            page = await browser.submit("/phone", phone=number)
            if _CHANGED not in page.text:
                raise DemoFailed(f"the phone could not be changed ({page.status})")
        print(f"  {TEXTED} changes the phone number at the portal: done")

    async def _command(self, *arguments: str) -> None:
        print(f"$ mfalb {' '.join(arguments)}")
        for line in (await self._running.command(*arguments)).splitlines():
            print(f"  {line}")

    async def print_balance(self) -> None:
        """What each server got, and whether each phone rang as often as it should."""
        print("\nPools")
        for pool, backends in (await self._running.pools()).items():
            told = (
                f"{one['name']} {one['health']}, {one['admin_state']}, {one['requests']} served" for one in backends
            )
            print(f"  {pool:<18} {'   '.join(told)}")
        texts = (await self._running.cloud.texts_sent()).get(TEXTED, 0)
        print(f"\nTexts sent: {texts}, for {self._people.texts_asked_for} one-way SMS sign-ins.", flush=True)


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts))


async def start_ha(folder: Path, stack: AsyncExitStack) -> RunningDeployment:
    """The deployment of conf/contoso, running until the stack closes."""
    moved, deployment = on_loopback(read_deployment(CONTOSO))
    write(folder, deployment)
    print("Starting the deployment of conf/contoso: the cloud MFA Service, two MFA Servers, two balancers, two User")
    print("Portals, two Mobile App Web Services, two AD FS nodes and an application ...", flush=True)
    session = await stack.enter_async_context(aiohttp.ClientSession())
    running = RunningDeployment(folder, deployment, moved, stack, session)
    await running.start()
    return running


def print_what_to_try(running: RunningDeployment) -> None:
    """Addresses, users, and commands that can be pasted."""
    where, folder, deployment = addresses_of(running), running.folder, running.deployment
    inside = folder / "balancer-inside" / "balancer.yaml"
    perimeter = folder / "balancer-perimeter" / "balancer.yaml"
    people = users(deployment)
    listed = "\n".join(f"  {name:<7} password {user['password']}   {user['method']}" for name, user in people.items())
    mfalb = "mfalb" if shutil.which("mfalb") else f"{sys.executable} -m mfalb"
    fault = "curl -H 'Content-Type: application/json' -d"
    secret = (folder / "clients" / "secrets" / "vpn").read_text("ascii").strip()
    admin = "   ".join(f"{host} http://{LOOPBACK}:{port}/status" for host, port in running.moved.admin_ports.items())
    print(
        f"""
Addresses (the browser will not know the authority, {folder}/clients/tls/contoso-ca.pem)
  Application       {where.application}   "Sign in" leads to AD FS and back
  User Portal       {where.portal}
  Mobile app        {where.app}
  Web Service SDK   {where.sdk}
  RADIUS            {LOOPBACK}:{where.radius_port}/udp   secret {secret}
  Phones            {running.cloud.url}/handset/{TEXTED} (bob, carol, dave)
  All texts         {running.cloud.url}/outbox
  Balancers         {admin}

Users
{listed}

Try it
  Sign in at the application as {TEXTED}; the code is on her phone's page. Bob's rings: answer on his.

  The master goes; sign-ins go on, and the portal is read-only:
    kill -9 {running.server(MASTER).pid}

  There is a new master, and the portal takes changes again:
    {mfalb} reference promote -c {folder}/{SLAVE}/{MFA_SERVER}.yaml

  The old one comes back, as a slave (it runs until Ctrl-C, in a terminal of its own):
    cd {folder}/{MASTER} && {mfalb} reference {MFA_SERVER} -c {MFA_SERVER}.yaml

  Before an upgrade; then the same with ready instead of drain:
    {mfalb} drain {SLAVE} -c {inside}
    {mfalb} drain up-mas1 -c {perimeter}

  Something is wrong: {SLAVE} answers 5 s late, and every phone rings twice (0 and false end it):
    {fault} '{{"slow_s": 5}}' {_control(running, SLAVE, MFA_SERVER)}/faults
    {fault} '{{"duplicate": true}}' {_control(running, "cloud", "cloud")}/faults

  What the balancers see:
    {mfalb} status -c {inside}
    {mfalb} status -c {perimeter}""",
        flush=True,
    )


def _control(running: RunningDeployment, host: str, kind: str) -> str:
    """Where a service's fault switches are."""
    return f"http://{LOOPBACK}:{running.services[f'{host}/{kind}'].ports['control']}"
