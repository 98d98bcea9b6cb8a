"""A bounded decoder of client requests in the Redis protocol.

Unlike hiredis, it checks every announced number against a limit before anything is allocated or
waited for. Error texts are those of Redis.
"""

import re
import string
from collections.abc import Callable, Mapping

import attrs

from fanout.errors import RemoteProtocolError
from fanout.values.requests import PublishRun
from fanout.wire.limits import ClientLimits
from fanout.wire.resp import replies
from fanout.wire.resp.heads import HEAD_BYTES_MAX, HEAD_BYTES_MIN

PAYLOAD_MARGIN_BYTES = 65_536
"""A payload over its limit by less is read and refused; otherwise the connection is closed."""

_HEADER_BYTES_MAX = 32
"""The longest `*` or `$` line; a longer number is never accepted."""

_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_HTTP = re.compile(
    rb"(?:GET|POST|HEAD|PUT|DELETE|OPTIONS|PATCH|CONNECT|TRACE) |host:", re.IGNORECASE
)
_ARRAY, _BULK = b"*$"
_INLINE = frozenset((b"PING", b"QUIT", b"AUTH"))
_NOT_INLINE = "inline commands other than PING, QUIT and AUTH are not accepted"
_LINE_STARTS = frozenset(b" \t\r\n\v\f" + string.ascii_letters.encode())
"""First bytes of an inline command. TLS begins with another byte and is refused at once."""


@attrs.frozen(kw_only=True)
class RequestLimits:
    """The limits of one request."""

    arguments_max: int
    bulk_bytes_max: int
    request_bytes_max: int
    inline_bytes_max: int = 1024
    authenticated: bool = True


def request_limits(limits: ClientLimits, arguments_max: int) -> RequestLimits:
    """Return the limits of the requests of a client with these limits."""
    bulk_bytes_max = limits.payload_bytes_max + PAYLOAD_MARGIN_BYTES
    return RequestLimits(
        arguments_max=arguments_max,
        bulk_bytes_max=bulk_bytes_max,
        request_bytes_max=bulk_bytes_max + arguments_max * limits.channel_bytes_max,
    )


UNAUTHENTICATED = RequestLimits(
    arguments_max=10, bulk_bytes_max=16_384, request_bytes_max=65_536, authenticated=False
)
"""The limits of Redis for a client that has not logged in: enough for HELLO with all options."""


class RequestDecoder:
    """Decodes requests. After an error the connection must be closed."""

    __slots__ = (
        *("_arguments", "_at", "_buffer", "_bulk", "_expected", "_gathered", "_lacking", "_room"),
        "limits",
    )

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        """May be replaced between requests, when a client has logged in."""
        self._buffer = b""
        self._at = 0  # where the undecoded bytes begin
        self._arguments: list[bytes] = []  # of a request begun
        self._expected = 0  # arguments it still lacks
        self._bulk = -1  # announced length of the next argument; -1: not read yet
        self._room = 0  # bytes that the rest of the request may take
        self._gathered = bytearray()  # behind the buffer, of an argument that comes in pieces
        self._lacking = 0  # bytes of it that are still to come

    def feed(self, data: bytes) -> None:
        """Add received bytes. The received part of an argument is not copied for each piece."""
        if len(data) < self._lacking:
            self._gathered += data
            self._lacking -= len(data)
            return
        rest = self._buffer[self._at :] if self._at else self._buffer
        if self._gathered:
            rest += self._gathered
            self._gathered = bytearray()
        self._buffer = rest + data if rest else data
        self._at = self._lacking = 0

    def publishes(
        self, known: Callable[[bytes], bytes | None], lengths: Mapping[bytes, int]
    ) -> PublishRun | None:
        """Return the next whole requests that are PUBLISH commands of a known kind, if any.

        `known` and `lengths` are as in `PublishHeadCache`. Commands that are unknown, incomplete or
        invalid are left to `next_request`.
        """
        if self._expected or self._gathered:
            return None
        buffer, start = self._buffer, self._at
        find = buffer.find
        channels: list[bytes] = []
        ends: list[int] = []
        at = start
        while True:
            head_end = find(b"\r\n$", at + HEAD_BYTES_MIN, at + HEAD_BYTES_MAX)
            if head_end < 0 or (channel := known(buffer[at:head_end])) is None:
                break
            line_end = find(b"\r\n", head_end + 3, head_end + _HEADER_BYTES_MAX)
            length = lengths.get(buffer[head_end + 3 : line_end])
            if line_end < 0 or length is None:
                break
            end = line_end + length + 4
            if buffer[end - 2 : end] != b"\r\n":
                break
            at = end
            channels.append(channel)
            ends.append(end - start)
        if not channels:
            return None
        self._at = at
        return PublishRun(channels, buffer[start:at], ends)

    def next_request(self) -> list[bytes] | None:
        """Return the next whole request, its verb first; None if more bytes are needed.

        Raises:
            RemoteProtocolError: the client violated the protocol or a limit; `reply` is the error.

        """
        while True:
            if not self._expected:
                if self._at >= len(self._buffer):
                    return None
                if self._buffer[self._at] != _ARRAY:
                    inline = self._inline()
                    if inline is None or inline:
                        return inline
                    continue
                if not self._begin():
                    return None
                continue  # `*0` announces nothing
            if not self._take_arguments():
                return None
            request, self._arguments = self._arguments, []
            return request

    def _line(self, what: str) -> bytes | None:
        """Return a header line without its end; None if it is incomplete."""
        end = self._buffer.find(b"\r\n", self._at, self._at + _HEADER_BYTES_MAX)
        if end < 0:
            if len(self._buffer) - self._at >= _HEADER_BYTES_MAX:
                raise _protocol_error(f"too big {what} count string")
            return None
        line = self._buffer[self._at + 1 : end]
        self._at = end + 2
        return line

    def _begin(self) -> bool:
        line = self._line("mbulk")
        if line is None:
            return False
        count, limits = _number(line), self.limits
        if count is None or count > limits.arguments_max:
            what = "invalid" if limits.authenticated or count is None else "unauthenticated"
            raise _protocol_error(f"{what} multibulk length")
        self._expected = max(0, count)
        self._room = limits.request_bytes_max
        return True

    def _take_arguments(self) -> bool:
        while self._expected:
            if self._bulk < 0:
                if self._at >= len(self._buffer):
                    return False
                first = self._buffer[self._at]
                if first != _BULK:
                    shown = bytes((first,)).decode("utf-8", "surrogateescape")
                    raise _protocol_error(f"expected '$', got '{shown}'")
                line = self._line("bulk")
                if line is None:
                    return False
                self._bulk = self._announced(_number(line))
            end = self._at + self._bulk
            if len(self._buffer) < end + 2:
                self._lacking = end + 2 - len(self._buffer) - len(self._gathered)
                return False
            self._arguments.append(self._buffer[self._at : end])
            self._at = end + 2
            self._bulk = -1
            self._expected -= 1
        return True

    def _announced(self, length: int | None) -> int:
        """Check the announced length of an argument before waiting for it."""
        limits = self.limits
        if length is None or length < 0:
            raise _protocol_error("invalid bulk length")
        if length > min(limits.bulk_bytes_max, self._room):
            what = "invalid" if limits.authenticated else "unauthenticated"
            raise _protocol_error(f"{what} bulk length")
        self._room -= length
        return length

    def _inline(self) -> list[bytes] | None:
        """Decode an inline PING, QUIT or AUTH; refuse HTTP, which a browser may send here."""
        if self._buffer[self._at] not in _LINE_STARTS:
            raise _protocol_error(_NOT_INLINE)
        end = self._buffer.find(b"\n", self._at, self._at + self.limits.inline_bytes_max)
        if end < 0:
            if len(self._buffer) - self._at >= self.limits.inline_bytes_max:
                raise _protocol_error("too big inline request")
            return None
        line = self._buffer[self._at : end]
        self._at = end + 1
        if _HTTP.match(line):
            raise RemoteProtocolError("an HTTP request came to the RESP door")
        words = line.split()
        if words and words[0].upper() not in _INLINE:
            raise _protocol_error(_NOT_INLINE)
        if b'"' in line or b"'" in line:
            raise _protocol_error("quotes in inline commands are not accepted")
        return words


def _number(line: bytes) -> int | None:
    return int(line) if _NUMBER.fullmatch(line) else None


def _protocol_error(text: str) -> RemoteProtocolError:
    return RemoteProtocolError(text, replies.error(f"ERR Protocol error: {text}"))
