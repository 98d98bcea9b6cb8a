"""A further kind of record, such as an adjunct brings: a note with its author."""

import json

import attrs

from fanout.errors import RemoteProtocolError
from fanout.wire.records import RecordKind


@attrs.frozen(kw_only=True)
class Note:
    """One note."""

    cluster: str = "c"
    id: str = "door"
    incarnation: int = 1
    version: int = 1
    lease_seconds: float = 30.0
    gone: bool = False
    text: str = ""

    @property
    def stamp(self) -> tuple[int, int]:
        """Order of the notes of one writer."""
        return (self.incarnation, self.version)


def decode(raw: bytes) -> Note:
    """Read a note."""
    try:
        return Note(**json.loads(raw))
    except (ValueError, TypeError):
        raise RemoteProtocolError("no note") from None


NOTES = RecordKind("note", Note, decode, lambda note: json.dumps(attrs.asdict(note)).encode())
