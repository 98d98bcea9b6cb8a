"""How the bytes of a fuzzer become a case."""

import attrs

from tests.support.wire.cuts import cut

HEAD_BYTES = 7


@attrs.frozen
class Given:
    """Options, places to cut at, and what is sent."""

    options: int
    places: tuple[int, ...]
    body: bytes

    @classmethod
    def read(cls, data: bytes) -> "Given":
        """Read a case; what is missing is zero."""
        head = data[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0")
        places = tuple(int.from_bytes(head[at : at + 2]) for at in (1, 3, 5))
        return cls(head[0], places, data[HEAD_BYTES:])

    def option(self, number: int) -> bool:
        """Return whether an option from 0 to 6 is on."""
        return bool(self.options >> number & 1)

    def pieces(self, sent: bytes) -> list[bytes]:
        """Cut at the places, or with option 7 everywhere."""
        return cut(sent, range(len(sent)) if self.option(7) else self.places)
