"""DNS updater: keeps the addresses of a name equal to the active instances of a pool.

An update (RFC 2136) replaces the records without reading them first. It is sent at every change and
at intervals; several updaters may send the same, and an update without effect changes nothing.

- An address is added when its instance is active, and removed when the instance drains or leaves.
- The last addresses stay: a name without addresses is useless, and resolvers cache its absence.
- While discovery cannot be read nothing is sent. After the start, and after such an outage, an
  address without an instance stays for `grace_seconds`: its record may not have been read yet.
"""

from collections.abc import Callable
from random import Random

import dns.asyncquery
import structlog
import trio
from dns.exception import DNSException, Timeout
from dns.rcode import Rcode, to_text
from dns.tsig import Key
from dns.update import UpdateMessage

from fanout.adjunct.gateway import INSTANCES
from fanout.config import DnsConfig, TlsFiles
from fanout.core.backoff import Backoff, jittered
from fanout.errors import ConfigError, FanoutError, root_of
from fanout.runtime.discovery.watch import Watch, open_watch
from fanout.runtime.net.certificates import Contexts
from fanout.runtime.net.world import real_world
from fanout.runtime.process.console import print_line
from fanout.runtime.process.signals import until_stopped
from fanout.values.records import NodeState

log = structlog.get_logger()

TIMEOUT_SECONDS = 5.0  # for a response of the name server
LOOK_SECONDS = 0.2  # between checks of the membership
RETRY_FIRST_SECONDS = 1.0  # first backoff; later ones grow up to the check interval


class DnsUnreachable(FanoutError):  # noqa: N818 - the state of the server
    """The name server does not respond, or responds with SERVFAIL."""


def wanted(config: DnsConfig, watch: Watch) -> tuple[set[str], set[str] | None]:
    """Return the addresses to add, and the addresses to remove first, or None for all.

    Both are empty if no instance is active or known: the name is not changed.
    """
    present = [each for each in watch.members(INSTANCES).values() if each.pool == config.pool]
    active = {ip for each in present if each.state is NodeState.ACTIVE for ip in each.ips}
    if active and watch.readable_seconds >= config.grace_seconds:
        return active, None
    absent = [each for each in watch.absent(INSTANCES) if each.pool == config.pool]
    others = (each for each in (*absent, *present) if each.state is not NodeState.ACTIVE)
    return active, {ip for each in others for ip in each.ips if active}


def _update(config: DnsConfig, addresses: set[str], others: set[str] | None) -> UpdateMessage:
    name = f"{config.fqdn}."
    update = UpdateMessage(f"{config.zone}.")
    update.absent(name, "CNAME")  # a CNAME would hide the addresses
    if others is None:
        update.delete(name, "A")
        update.delete(name, "AAAA")
    for ip in others or ():
        update.delete(name, "AAAA" if ":" in ip else "A", ip)
    for ip in addresses:
        update.add(name, config.ttl_seconds, "AAAA" if ":" in ip else "A", ip)
    return update


async def send(config: DnsConfig, addresses: set[str], others: set[str] | None) -> None:
    """Send an update with the addresses that `wanted` returned.

    Raises ConfigError if the server refuses it, naming the key but not its secret; DnsUnreachable
    if the server does not respond, or responds with SERVFAIL.
    """
    server, key = config.server, config.dns_key
    assert server and key  # noqa: S101, PT018 - required by the configuration
    update = _update(config, addresses, others)
    update.use_tsig(Key(key.name, key.secret, key.algorithm))
    try:
        found = await trio.socket.getaddrinfo(server.host, server.port)
        where = str(found[0][4][0])
        answer = await dns.asyncquery.tcp(update, where, TIMEOUT_SECONDS, server.port)
    except (OSError, EOFError, trio.BrokenResourceError, Timeout) as error:
        raise DnsUnreachable(f"name server {server}: {root_of(error)}") from None
    except DNSException as error:
        why = str(error)
    else:
        code = answer.rcode()
        if code == Rcode.NOERROR and answer.had_tsig:
            return
        why = f"it responds {to_text(code)}{'' if answer.had_tsig else ' without a signature'}"
        if code == Rcode.SERVFAIL:
            raise DnsUnreachable(f"name server {server}: {why}")
        if code == Rcode.YXRRSET:
            why = f"{config.fqdn} is a CNAME"
    raise ConfigError(
        f"name server {server}: {why}; check that it is the primary of {config.zone} and that key "
        f"{key.name} may update {config.fqdn} (FANOUT_DNS_KEY)"
    )


async def keep(config: DnsConfig, watch: Watch, rng: Random, say: Callable[[str], None]) -> None:
    """Update the name until cancelled; call `say` with a line after the first update.

    Raises ConfigError if the server refuses the first update; later refusals are logged.
    """
    interval = config.check_interval_seconds
    backoff = Backoff(first_seconds=min(RETRY_FIRST_SECONDS, interval), max_seconds=interval)
    kept: tuple[set[str], set[str] | None] | None = None
    due, failures, told = 0.0, 0, ""
    while True:
        await trio.sleep(LOOK_SECONDS)
        shall = wanted(config, watch)
        if watch.frozen or (shall == kept and trio.current_time() < due):
            continue
        try:
            await send(config, *shall)
        except (ConfigError, DnsUnreachable) as error:
            if isinstance(error, ConfigError) and kept is None:
                raise
            if str(error) != told:
                log.warning("dns_failed", name=config.fqdn, reason=str(error))
            failures, told = failures + 1, str(error)
            await trio.sleep(backoff.delay_seconds(failures, rng))
            continue
        active, _ = shall
        if told:
            log.info("dns_recovered", name=config.fqdn)
        if active and (kept is None or active != kept[0]):
            log.info("dns_updated", name=config.fqdn, addresses=sorted(active))
        if kept is None:
            say(f"ready name={config.fqdn} server={config.server} addresses={len(active)}")
        kept, failures, told = shall, 0, ""
        due = trio.current_time() + jittered(interval, rng)


async def keep_name(config: DnsConfig) -> int:
    """Run the updater until a signal stops it; return the exit code. Raises ConfigError, as `keep`."""
    contexts = Contexts(TlsFiles.of(config))
    async with (
        until_stopped(contexts.reload),
        open_watch(config, (INSTANCES,), world=real_world(contexts)) as (_, watch),
    ):
        await keep(config, watch, Random(), print_line)  # noqa: S311 - jitter
    return 0
