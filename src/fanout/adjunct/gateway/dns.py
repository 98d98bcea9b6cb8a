"""Keeps the addresses of a name in DNS equal to the active instances of a pool.

Rules
- An address is added as soon as its instance is active, and removed as soon as it drains.
- The last addresses stay: a name that leads to nobody helps nobody, and resolvers remember it.
- While discovery cannot be read nothing is changed. After the start, and after such an outage,
  an address that nobody claims stays for `grace_seconds`: its instance may not have been heard
  of yet.
- A change is one update by RFC 2136 that replaces whole record sets, on the condition that they
  are what was read just before. So several updaters do no harm: they write the same, and one
  that was overtaken reads again.
"""

from collections.abc import Callable, Iterable
from random import Random

import structlog
import trio

from fanout.adjunct.gateway.instance import INSTANCES, InstanceRecord
from fanout.adjunct.gateway.name_server import (
    TYPES,
    DnsRefused,
    DnsUnreachable,
    Name,
    differences,
    records_of,
)
from fanout.config import DnsConfig, TlsFiles
from fanout.core.backoff import Backoff, jittered
from fanout.errors import ConfigError
from fanout.runtime.certificates import Contexts
from fanout.runtime.console import print_line
from fanout.runtime.signals import until_stopped
from fanout.runtime.watch import Watch, open_watch
from fanout.runtime.world import real_world
from fanout.values import NodeState

log = structlog.get_logger()

PAUSE_SECONDS = 0.1
"""Changes that come this close together cause one update."""
RETRY_FIRST_SECONDS = 1.0
"""Longest wait after the first failure; the check interval is the longest after later ones."""
ATTEMPTS_MAX = 3
"""So often in a row an update may be overtaken by another updater's."""


def addresses_wanted(
    present: set[str], instances: Iterable[InstanceRecord], *, is_sure: bool
) -> set[str]:
    """Return what a name should lead to.

    Args:
        present: what it leads to now.
        instances: those of the pool.
        is_sure: whether an instance that is not among them is certainly away.

    """
    active: set[str] = set()
    others: set[str] = set()
    for each in instances:
        (active if each.state is NodeState.ACTIVE else others).update(each.ips)
    if not active:
        return present
    return active if is_sure else active | (present - others)


class Updater:
    """Keeps one name.

    Args:
        config: which name, where.
        watch: over `INSTANCES`.
        rng: for jitter.

    """

    def __init__(self, config: DnsConfig, watch: Watch, rng: Random) -> None:
        self._config = config
        self._watch = watch
        self._rng = rng
        self._name = Name(config)
        self._backoff = Backoff(
            first_seconds=min(RETRY_FIRST_SECONDS, config.check_interval_seconds),
            max_seconds=config.check_interval_seconds,
        )

    async def sync(self) -> set[str]:
        """Look, change what must be changed, and return what the name leads to then.

        Raises DnsUnreachable or DnsRefused.
        """
        for _ in range(ATTEMPTS_MAX):
            before = await self._name.read()
            present = {str(rdata) for kind in TYPES for rdata in before[kind]}
            if self._watch.frozen:
                return present
            wanted = self._wanted(present)
            after = records_of(sorted(wanted), self._config.ttl_seconds)
            if not differences(before, after):
                return present
            if await self._name.write(before, after):
                log.info("dns_updated", name=self._config.fqdn, addresses=sorted(wanted))
                return wanted
        raise DnsUnreachable(f"{self._config.fqdn} is being changed by others all the time")

    async def run(self, on_first: Callable[[set[str]], None]) -> None:
        """Keep the name until cancelled; `on_first` is told what it leads to once that is known.

        Raises:
            ConfigError: the server refused before it ever agreed. Later that is only logged.

        """
        failures, told, agreed = 0, "", False
        while True:
            changed = self._watch.changed
            reason = ""
            try:
                addresses = await self.sync()
            except (DnsRefused, DnsUnreachable) as error:
                reason = str(error)
                if isinstance(error, DnsRefused) and not agreed:
                    raise ConfigError(reason) from None
            self._tell(reason, told)
            told = reason
            if reason:
                failures += 1
                await trio.sleep(self._backoff.delay_seconds(failures, self._rng))
                continue
            if not agreed:
                on_first(addresses)
            failures, agreed = 0, True
            with trio.move_on_after(self._rest_seconds()):
                await changed.wait()
            await trio.sleep(PAUSE_SECONDS)

    def _wanted(self, present: set[str]) -> set[str]:
        instances = self._watch.members(INSTANCES).values()
        of_pool = (each for each in instances if each.pool == self._config.pool)
        return addresses_wanted(present, of_pool, is_sure=self._grace_left_seconds() <= 0)

    def _grace_left_seconds(self) -> float:
        return self._config.grace_seconds - self._watch.readable_seconds

    def _rest_seconds(self) -> float:
        """Return how long there is nothing to do unless something changes."""
        seconds = jittered(self._config.check_interval_seconds, self._rng)
        left = self._grace_left_seconds()
        return min(seconds, left) if left > 0 else seconds

    def _tell(self, reason: str, before: str) -> None:
        """Log what is wrong with the server when that changes."""
        if reason and reason != before:
            log.warning("dns_failed", name=self._config.fqdn, reason=reason)
        elif before and not reason:
            log.info("dns_recovered", name=self._config.fqdn)


async def keep_name(config: DnsConfig) -> int:
    """Keep a name equal to a pool until a signal ends it; return the exit code.

    Raises, perhaps in a group:
        ConfigError: the name server refuses, from the start; or a TLS file cannot be read.
        RegistryUnavailable: discovery cannot be read, from the start.

    """
    contexts = Contexts(TlsFiles.of(config))

    def on_first(addresses: set[str]) -> None:
        print_line(f"ready name={config.fqdn} server={config.server} addresses={len(addresses)}")

    async with (
        until_stopped(contexts.reload),
        open_watch(config, (INSTANCES,), world=real_world(contexts)) as (_, watch),
    ):
        await Updater(config, watch, Random()).run(on_first)  # noqa: S311 - jitter
    return 0
