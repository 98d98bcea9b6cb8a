"""The server side of Redis' protocol: what clients send, decoded within bounds.

Unlike hiredis this decoder trusts nothing a client announces: every number is checked against a
limit before anything is allocated or waited for. Error texts are Redis' own, and so is what it
lets pass: the two bytes behind an argument are skipped, not read.
"""

import re

import attrs

from fanout.errors import RemoteProtocolError
from fanout.wire import resp

_HEADER_BYTES_MAX = 32
"""A `*` or `$` line is a number; a longer one is no number we would accept."""

_ARGUMENT_BYTES = 1024
"""What the arguments of a request may hold on average, beside one of the largest size."""

_INTEGER = re.compile(rb"-?[1-9][0-9]{0,18}|0")
_INTEGER_BITS = 63

_PUBLISH = re.compile(
    rb"\*3\r\n\$7\r\n(PUBLISH|publish)\r\n"
    rb"\$(0|[1-9][0-9]{0,6})\r\n([^\r]*+)\r\n"
    rb"\$(0|[1-9][0-9]{0,6})\r\n"
).match
"""All of a PUBLISH but its payload; a channel that holds a CR takes the long way."""

_HTTP = re.compile(
    rb"(?:GET|POST|HEAD|PUT|DELETE|OPTIONS|PATCH|CONNECT|TRACE) |host:", re.IGNORECASE
)
_ARRAY, _BULK = b"*$"
_INLINE = frozenset((b"PING", b"QUIT"))


@attrs.frozen(kw_only=True)
class RequestLimits:
    """What one request may hold."""

    arguments_max: int = attrs.field(default=1024, validator=attrs.validators.ge(3))  # a PUBLISH
    bulk_bytes_max: int = 1_114_112  # one argument: 1 MiB of payload, and some room to refuse more
    inline_bytes_max: int = 1024

    @property
    def request_bytes_max(self) -> int:
        """All arguments together: one may be large, the others are names."""
        return self.bulk_bytes_max + self.arguments_max * _ARGUMENT_BYTES


class RequestDecoder:
    """Feed bytes, take requests until there are no more, and so on.

    Between two feeds it holds no more than one unfinished request. After an error the connection
    must be closed.
    """

    __slots__ = (
        "_arguments", "_at", "_buffer", "_bulk", "_expected", "_late", "_limits", "_missing",
        "_room",
    )  # fmt: skip

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._buffer = b""
        self._at = 0  # where the undecoded bytes begin
        self._late = bytearray()  # what came since, while an argument known to be longer is awaited
        self._missing = 0  # bytes that argument still lacks
        self._arguments: list[bytes] = []  # of a request begun
        self._expected = 0  # arguments it still lacks
        self._room = 0  # bytes they may hold
        self._bulk = -1  # announced length of the next argument; -1: not read yet

    def feed(self, data: bytes) -> None:
        """Take bytes as they arrived."""
        self._missing -= len(data)
        if self._missing > 0:
            self._late += data  # not joined yet: a large argument in small reads stays cheap
            return
        self._missing = 0
        rest = self._buffer[self._at :]
        if self._late:
            rest += self._late
            self._late = bytearray()
        self._buffer = rest + data if rest else data
        self._at = 0

    def next_request(self) -> list[bytes] | None:
        """Return the next whole request, its verb first; None when more bytes are needed.

        Raises:
            RemoteProtocolError: the client broke the protocol or a limit; `reply` says how.

        """
        if not self._expected and (head := _PUBLISH(self._buffer, self._at)) is not None:
            # The same as below in few steps, when it has come whole.
            verb, channel_length, channel, payload_length = head.groups()
            start = head.end()
            end = start + int(payload_length)
            longest = self._limits.bulk_bytes_max
            if (
                int(channel_length) == len(channel)
                and len(channel) + end - start <= longest
                and len(self._buffer) >= end + 2
            ):
                self._at = end + 2
                return [verb, channel, self._buffer[start:end]]
        return None if self._missing else self._next_request()

    def _next_request(self) -> list[bytes] | None:
        while self._at < len(self._buffer):
            if not self._expected:
                if self._buffer[self._at] != _ARRAY:
                    words = self._inline()
                    if words is None:
                        return None
                    if words:
                        return words
                    continue  # an empty line is nothing
                if not self._begin():
                    return None
                continue  # `*0` announces nothing
            if not self._take_argument():
                return None
            if not self._expected:
                request, self._arguments = self._arguments, []
                return request
        self._buffer = b""  # an idle client holds no memory
        self._at = 0
        return None

    def _line(self, what: str) -> bytes | None:
        """Take the number of a header line; None when the line has not come whole."""
        end = self._buffer.find(b"\r\n", self._at, self._at + _HEADER_BYTES_MAX)
        if end < 0:
            if len(self._buffer) - self._at >= _HEADER_BYTES_MAX:
                raise _protocol_error(b"too big %b count string" % what.encode())
            return None
        line = self._buffer[self._at + 1 : end]
        self._at = end + 2
        return line

    def _begin(self) -> bool:
        line = self._line("mbulk")
        if line is None:
            return False
        count = parse_integer(line)
        if count is None or count > self._limits.arguments_max:
            raise _protocol_error(b"invalid multibulk length")
        self._expected = max(0, count)
        self._room = self._limits.request_bytes_max
        return True

    def _take_argument(self) -> bool:
        if self._bulk < 0:
            first = self._buffer[self._at]
            if first != _BULK:
                raise _protocol_error(b"expected '$', got '%c'" % first)
            line = self._line("bulk")
            if line is None:
                return False
            length = parse_integer(line)
            longest = min(self._limits.bulk_bytes_max, self._room)
            if length is None or not 0 <= length <= longest:
                raise _protocol_error(b"invalid bulk length")
            self._bulk = length
            self._room -= length
        end = self._at + self._bulk
        self._missing = max(0, end + 2 - len(self._buffer))
        if self._missing:
            return False
        self._arguments.append(self._buffer[self._at : end])
        self._at = end + 2
        self._bulk = -1
        self._expected -= 1
        return True

    def _inline(self) -> list[bytes] | None:
        """Take a plain line: only PING and QUIT, and never HTTP, which a browser may send here."""
        if _HTTP.match(self._buffer, self._at):
            raise RemoteProtocolError("an HTTP request came to the RESP door")
        end = self._buffer.find(b"\n", self._at, self._at + self._limits.inline_bytes_max)
        if end < 0:
            if len(self._buffer) - self._at >= self._limits.inline_bytes_max:
                raise _protocol_error(b"too big inline request")
            return None
        line = self._buffer[self._at : end]
        self._at = end + 1
        words = line.split()
        if words and words[0].upper() not in _INLINE:
            raise _protocol_error(b"inline commands other than PING and QUIT are not accepted")
        if b'"' in line or b"'" in line:
            raise _protocol_error(b"quotes in inline commands are not accepted")
        return words


def parse_integer(digits: bytes) -> int | None:
    """Return a whole number of 64 bits as strictly as Redis: no sign but `-`, no leading zeros."""
    if _INTEGER.fullmatch(digits) is None:
        return None
    number = int(digits)
    return number if -(1 << _INTEGER_BITS) <= number < 1 << _INTEGER_BITS else None


def _protocol_error(text: bytes) -> RemoteProtocolError:
    line = b"Protocol error: " + text
    return RemoteProtocolError(text.decode("ascii", "backslashreplace"), resp.error(b"ERR " + line))
