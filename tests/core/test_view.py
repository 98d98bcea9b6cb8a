"""What `test_membership` does not reach: records of further kinds."""

from math import inf

from fanout.core.ledger import FURTHER, Ledger
from fanout.core.view import TOMBSTONE_SECONDS, View
from fanout.values.records import Record
from tests.support.notes import Note


def view() -> View[Record]:
    """Return a view of notes."""
    ledger = Ledger(FURTHER, members_max=10, tombstone_seconds=TOMBSTONE_SECONDS)
    return View("c", {Note: ledger}, instances=2)


def test_a_change_is_reported_by_its_record() -> None:
    """Joined, changed, left and expired alike; what is old or of another fleet is not."""
    notes = view()
    second = Note(version=2)
    goodbye = Note(version=3, gone=True)
    other = Note(id="other", lease_seconds=10)

    assert notes.take(0, [Note(), Note(cluster="d", id="x")], 0) == (Note(),)
    assert notes.take(1, [second, Note()], 0) == (second,)
    assert notes.take(0, [goodbye, other], 0) == (goodbye, other)
    assert notes.take(0, [second, Note(version=4)], 1) == ()
    assert notes.next_deadline() == 10
    assert notes.advance(10) == (other,)


def test_a_record_without_end_never_expires_and_never_counts_as_late() -> None:
    """It neither goes, nor does it hide that most of those who renew are silent."""
    notes = view()
    lasting = [Note(id=f"lasting-{n}", lease_seconds=inf) for n in range(9)]
    renewed = [Note(id="a", lease_seconds=10)]
    notes.take(0, [*lasting, *renewed], 0)

    assert notes.advance(1e9) == (renewed[0],)
    assert notes.next_deadline() == inf


def test_silence_of_most_who_renew_is_doubted_beside_records_without_end() -> None:
    """Three silent writers are a majority of the three who renew."""
    notes = view()
    lasting = [Note(id=f"lasting-{n}", lease_seconds=inf) for n in range(7)]
    renewed = [Note(id=name, lease_seconds=10) for name in "abc"]
    notes.take(0, [*lasting, *renewed], 0)

    assert notes.advance(10) == ()
    assert notes.next_deadline() == 40
    assert set(notes.advance(40)) == set(renewed)
