"""The addresses of one name in DNS, read and replaced at the primary server of its zone.

Both are signed with a TSIG key (RFC 8945), and so must the answers be. Replacing is one dynamic
update (RFC 2136).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.tsig
import dns.update
import trio

from fanout.config import DnsConfig
from fanout.errors import FanoutError

TYPES = (dns.rdatatype.A, dns.rdatatype.AAAA)
TIMEOUT_SECONDS = 5.0
"""How long the name server may take for an answer."""
OVERTAKEN = {dns.rcode.NXRRSET, dns.rcode.YXRRSET}


class DnsUnreachable(FanoutError):  # noqa: N818 - a fact of the network
    """The name server does not answer, or cannot answer now."""


class DnsRefused(FanoutError):  # noqa: N818 - an answer
    """The name server answered that it will not."""


Records = dict[dns.rdatatype.RdataType, dns.rdataset.Rdataset]


def records_of(addresses: Iterable[str], ttl_seconds: int) -> Records:
    """Return the record set of each type, empty ones included."""
    sets = {kind: dns.rdataset.Rdataset(dns.rdataclass.IN, kind, ttl=ttl_seconds) for kind in TYPES}
    for address in addresses:
        kind = TYPES[":" in address]
        sets[kind].add(dns.rdata.from_text(dns.rdataclass.IN, kind, address), ttl_seconds)
    return sets


class Name:
    """One name at the primary name server of its zone."""

    def __init__(self, config: DnsConfig) -> None:
        assert config.server is not None  # noqa: S101 - the configuration insists on it
        assert config.dns_key is not None  # noqa: S101 - likewise
        self._server = config.server
        self._zone = dns.name.from_text(config.zone)
        self._name = dns.name.from_text(config.fqdn)
        key = config.dns_key
        self._key = dns.tsig.Key(key.name, key.secret, key.algorithm)
        self._backend = dns.asyncbackend.get_backend("trio")

    async def read(self) -> Records:
        """Return the addresses' record sets. Raises DnsUnreachable or DnsRefused."""
        found = records_of((), 0)
        for kind in TYPES:
            query = dns.message.make_query(self._name, kind, flags=0)
            answer = await self._ask(query, {dns.rcode.NXDOMAIN})
            if not answer.flags & dns.flags.AA:
                raise DnsRefused(
                    f"name server {self._server} is not the one for {self._name}; "
                    "give --server the primary of --zone"
                )
            for rrset in answer.answer:
                if rrset.rdtype == dns.rdatatype.CNAME:
                    raise DnsRefused(f"{self._name} is an alias (CNAME); remove that first")
                found[kind] = rrset.to_rdataset()
        return found

    async def write(self, before: Records, after: Records) -> bool:
        """Replace what `read` returned; False, and nothing done, when that is so no more.

        Raises DnsUnreachable or DnsRefused.
        """
        update = dns.update.UpdateMessage(self._zone)
        for kind in TYPES:
            if before[kind]:
                update.present(self._name, *before[kind])
            else:
                update.absent(self._name, kind)
            if before[kind] != after[kind] or before[kind].ttl != after[kind].ttl:
                update.delete(self._name, kind)
                update.add(self._name, after[kind])
        answer = await self._ask(update, OVERTAKEN)
        return answer.rcode() == dns.rcode.NOERROR

    async def _ask(
        self, message: dns.message.Message, expected: set[dns.rcode.Rcode]
    ) -> dns.message.Message:
        """Ask the server; an answer that is neither success nor `expected` is raised."""
        message.use_tsig(self._key)
        server = f"name server {self._server}"
        with _told(server, self._key.name):
            host, port = self._server.host, self._server.port
            found = await trio.socket.getaddrinfo(host, port)
            where = str(found[0][4][0])
            answer = await dns.asyncquery.tcp(
                message, where, TIMEOUT_SECONDS, port, backend=self._backend
            )
        code = answer.rcode()
        if code == dns.rcode.SERVFAIL:
            raise DnsUnreachable(f"{server} has failed with {self._name} (SERVFAIL)")
        if code != dns.rcode.NOERROR and code not in expected:
            raise DnsRefused(
                f"{server} answered {dns.rcode.to_text(code)} for {self._name}; is it the primary "
                f"of {self._zone}, and may the key {self._key.name} update the name?"
            )
        if not answer.had_tsig:
            raise DnsRefused(f"{server} did not sign its answer with the key {self._key.name}")
        return answer


@contextmanager
def _told(server: str, key: dns.name.Name) -> Iterator[None]:
    """Say in our words what went wrong with a name server."""
    try:
        yield
    except dns.tsig.PeerBadKey:
        raise DnsRefused(f"{server} does not know the key {key}; see FANOUT_DNS_KEY") from None
    except (dns.tsig.PeerBadSignature, dns.tsig.BadSignature):
        raise DnsRefused(
            f"{server} has another secret or algorithm for the key {key}; see FANOUT_DNS_KEY"
        ) from None
    except (dns.tsig.PeerBadTime, dns.tsig.BadTime):
        raise DnsRefused(f"the clocks of {server} and of this machine differ too much") from None
    except dns.exception.Timeout:
        raise DnsUnreachable(f"{server} did not answer in {TIMEOUT_SECONDS:g} seconds") from None
    except OSError as error:
        why = error.strerror or error
        raise DnsUnreachable(f"{server} cannot be reached: {why}") from None
    except (trio.BrokenResourceError, EOFError, dns.exception.DNSException) as error:
        why = type(error).__name__
        raise DnsUnreachable(f"{server} broke off or answered what is no answer ({why})") from None
