"""The addresses of one name in DNS, read and replaced at the primary server of its zone.

Both are signed with a TSIG key (RFC 8945), and so must the answers be. Replacing is one dynamic
update (RFC 2136).
"""

import os
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
        self._who = f"name server {config.server}"
        self._zone = config.zone
        self._text = config.fqdn
        self._name = dns.name.from_text(config.fqdn)
        key = config.dns_key
        self._key_name = key.name
        self._key = dns.tsig.Key(key.name, key.secret, key.algorithm)
        self._backend = dns.asyncbackend.get_backend("trio")

    async def read(self) -> Records:
        """Return the addresses' record sets. Raises DnsUnreachable or DnsRefused."""
        found = records_of((), 0)
        for kind in TYPES:
            query = dns.message.make_query(self._name, kind, flags=0)
            answer = await self._ask(query, {dns.rcode.NXDOMAIN})
            if not answer.flags & dns.flags.AA:
                raise self._refused("without authority")
            for rrset in answer.answer:
                if rrset.rdtype == dns.rdatatype.CNAME:
                    raise DnsRefused(f"{self._text} is an alias (CNAME); remove that first")
                if (rrset.name, rrset.rdtype) == (self._name, kind):
                    found[kind] = rrset.to_rdataset()
        return found

    async def write(self, before: Records, after: Records) -> bool:
        """Replace what `read` returned; False, and nothing done, when that is so no more.

        Raises DnsUnreachable or DnsRefused.
        """
        update = dns.update.UpdateMessage(f"{self._zone}.")
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
        host, port = self._server.host, self._server.port
        with self._told():
            found = await trio.socket.getaddrinfo(host, port)
            where = str(found[0][4][0])
            answer = await dns.asyncquery.tcp(
                message, where, TIMEOUT_SECONDS, port, backend=self._backend
            )
        code = answer.rcode()
        if code == dns.rcode.SERVFAIL:
            raise DnsUnreachable(f"{self._who} fails with {self._text} (SERVFAIL)")
        if not answer.had_tsig:
            raise self._refused("without a signature")
        if code != dns.rcode.NOERROR and code not in expected:
            raise self._refused(dns.rcode.to_text(code))
        return answer

    def _refused(self, answer: str) -> DnsRefused:
        return DnsRefused(
            f"{self._who} answered {answer} for {self._text}; is it the primary of {self._zone}, "
            f"and may the key {self._key_name} update the name?"
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in our words what went wrong with the server."""
        who, key = self._who, f"the key {self._key_name}; see FANOUT_DNS_KEY"
        try:
            yield
        except dns.tsig.PeerBadKey:
            raise DnsRefused(f"{who} does not take updates of {self._text} by {key}") from None
        except (dns.tsig.PeerBadSignature, dns.tsig.BadSignature):
            raise DnsRefused(f"{who} has another secret or algorithm for {key}") from None
        except (dns.tsig.PeerBadTime, dns.tsig.BadTime):
            raise DnsRefused(f"the clocks of {who} and of this machine differ too much") from None
        except dns.exception.Timeout:
            raise DnsUnreachable(f"{who} did not answer in {TIMEOUT_SECONDS:g} seconds") from None
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise DnsUnreachable(f"{who} cannot be reached: {why}") from None
        except (trio.BrokenResourceError, EOFError, dns.exception.DNSException) as error:
            if type(error) is dns.exception.FormError:  # well formed, but for the signature
                raise self._refused("without a signature") from None
            why = type(error).__name__
            raise DnsUnreachable(f"{who} broke off or made no sense ({why})") from None
