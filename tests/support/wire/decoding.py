"""Decoding of requests in any pieces."""

from fanout.errors import RemoteProtocolError
from fanout.wire.resp.requests import RequestDecoder, RequestLimits


def decode(pieces: list[bytes], limits: RequestLimits) -> tuple[list[list[bytes]], bytes | None]:
    """Return the requests and the reply to a protocol error, if any."""
    decoder, found = RequestDecoder(limits), []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while (request := decoder.next_request()) is not None:
                found.append(request)
    except RemoteProtocolError as error:
        return found, error.reply
    return found, None
