"""What others write to discovery and to nodes, and what a sidecar says to `fanout.client`."""

import contextlib
from collections.abc import Callable
from typing import Any

from fanout.errors import RemoteProtocolError
from fanout.values.names import CENSUS_INBOX_PREFIX
from fanout.wire import census, records
from fanout.wire.ws import bridge_client

_ERROR_BYTES_MAX = 500


def _record(decode: Callable[[bytes], Any], bytes_max: int) -> Callable[[bytes], None]:
    def check(raw: bytes) -> None:
        why = b""
        try:
            record = decode(raw)
        except RemoteProtocolError as error:
            why = str(error).encode()
        assert len(why) <= _ERROR_BYTES_MAX
        if why:
            return
        written = records.encode_record(record)
        if len(written) <= bytes_max:  # a record may grow: 1e9 is written back as 1000000000.0
            assert decode(written) == record

    return check


def _control(raw: bytes) -> None:
    message = records.decode_control(raw)
    if message is not None:
        assert records.decode_control(records.encode_control(message)) == message


def _question(raw: bytes) -> None:
    asked = census.decode_question(raw)
    if asked is None:
        return
    assert CENSUS_INBOX_PREFIX + asked.sidecar.encode()  # where the answer goes
    written = census.encode_question(asked)
    if len(written) <= census.MESSAGE_BYTES_MAX:
        assert census.decode_question(written) == asked


def _answer(raw: bytes) -> None:
    answer = census.decode_answer(raw)
    if answer is None:
        return
    counts: dict[bytes, int] = {}
    parts = census.encode_answer(answer.sidecar, answer.number, answer.counts)
    for part, written in enumerate(parts):
        again = census.decode_answer(written)
        assert again is not None and (again.part, again.parts) == (part, len(parts))
        counts.update(again.counts)
    assert counts == answer.counts


def _client(raw: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError, LookupError, ValueError):
        bridge_client.event(bridge_client.decode(raw))
    with contextlib.suppress(RemoteProtocolError, LookupError, ValueError):
        assert bridge_client.limits(bridge_client.decode(raw)).names > 0


CHECKS = (
    _record(records.decode_node, records.NODE_BYTES_MAX),
    _record(records.decode_sidecar, records.SIDECAR_BYTES_MAX),
    _record(records.decode_identity, records.NODE_BYTES_MAX),
    _record(records.decode_drain, records.NODE_BYTES_MAX),
    _control,
    _question,
    _answer,
    _client,
)


def peers(data: bytes) -> None:
    """Run one case: the first byte chooses a decoder, which gets the rest."""
    if data:
        CHECKS[data[0] % len(CHECKS)](data[1:])
