"""A bounded queue of bytes for one peer.

Blobs are appended whole and sent as fast as the peer reads. A blob always ends at a message
boundary of the peer's protocol, so an overflow drops whole messages only.
"""

from collections import deque

CHUNK_BYTES_MAX = 262_144
"""The most bytes for one send; larger sends are not faster."""


class Outbox:
    """A queue of bytes for one peer that holds at most `bytes_max`."""

    __slots__ = ("_blobs", "_offset", "bytes_max", "handed", "size")

    def __init__(self, bytes_max: int) -> None:
        self._blobs: deque[bytes] = deque()
        self._offset = 0  # bytes of the first blob already sent
        self.bytes_max = bytes_max
        self.size = 0
        """Bytes in the queue."""
        self.handed = 0
        """Bytes sent since the start."""

    def __bool__(self) -> bool:
        return self.size > 0

    def append(self, blob: bytes) -> bool:
        """Queue `blob` and return True; return False if that would exceed the limit.

        A blob larger than the limit is accepted while the queue is empty: a single large message
        to a client that keeps up is not an overflow.
        """
        size = self.size + len(blob)
        if size > self.bytes_max and self.size:
            return False
        self.size = size
        self._blobs.append(blob)
        return True

    def head(self) -> bytes | memoryview:
        """Return the next bytes to send, at least one byte if the queue is not empty."""
        blobs = self._blobs
        if len(blobs) == 1 or len(blobs[0]) - self._offset >= CHUNK_BYTES_MAX:
            return memoryview(blobs[0])[self._offset :] if self._offset else blobs[0]
        chunk = []
        room = CHUNK_BYTES_MAX + self._offset
        for blob in blobs:
            chunk.append(blob)
            room -= len(blob)
            if room <= 0:
                break
        joined = b"".join(chunk)
        return memoryview(joined)[self._offset :] if self._offset else joined

    def advance(self, count: int) -> None:
        """Record that `count` bytes of the queue were sent."""
        if not 0 <= count <= self.size:
            raise ValueError(f"cannot advance by {count} of {self.size} bytes")
        self.size -= count
        self.handed += count
        count += self._offset
        blobs = self._blobs
        while blobs and count >= len(blobs[0]):
            count -= len(blobs.popleft())
        self._offset = count

    def truncate(self, farewell: bytes) -> None:
        """Drop the queue except the rest of a partly sent blob; then queue `farewell`.

        `farewell` may exceed the limit.
        """
        blobs = self._blobs
        begun = blobs[0] if self._offset else None
        blobs.clear()
        self.size = 0
        if begun is not None:
            blobs.append(begun)
            self.size = len(begun) - self._offset
        self.finish(farewell)

    def finish(self, farewell: bytes) -> None:
        """Queue the last blob; it may exceed the limit."""
        if farewell:
            self._blobs.append(farewell)
            self.size += len(farewell)
