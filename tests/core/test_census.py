"""Counting the clients of a fleet: exact when all answer, in time when not."""

from collections.abc import Iterator, Mapping

import attrs
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.census import NAMES_BYTES_MAX, Questions, count, pieces
from fanout.values.control import CensusAnswer, CensusQuestion
from fanout.values.names import SidecarId, Space
from fanout.values.requests import Question
from fanout.wire import census as wire

ONE, TWO = SidecarId("one"), SidecarId("two")
names = st.binary(max_size=12)
counts = st.dictionaries(names, st.integers(1, 5), max_size=8)


@attrs.frozen
class Table:
    """What one sidecar's clients subscribe to, the same in every space."""

    clients: Mapping[bytes, int]

    def names(self, _space: Space) -> Iterator[bytes]:
        """Yield the names."""
        return iter(self.clients)

    def subscribers(self, _space: Space, name: bytes) -> int:
        """Count the clients of a name."""
        return self.clients.get(name, 0)


@given(st.lists(counts, min_size=1, max_size=4), st.lists(names, max_size=6))
def test_the_sum_over_all_sidecars_is_exact(
    fleet: list[dict[bytes, int]], asked: list[bytes]
) -> None:
    """Through the wire and back, for names and for a pattern, in any order of answers."""
    for question in (Question(Space.CHANNELS, tuple(asked)), Question(Space.PATTERNS)):
        done: list[Mapping[bytes, int]] = []
        questions = Questions(timeout_seconds=1)
        parts = pieces(question)
        numbers = questions.begin(count(Table(fleet[0]), question), len(parts), done.append, 0)
        for number, part in zip(numbers, parts, strict=True):
            raw = wire.encode_question(CensusQuestion(ONE, number, part))
            heard = wire.decode_question(raw)
            assert heard == CensusQuestion(ONE, number, part)
            answers = [
                wire.encode_answer(SidecarId(f"s{place}"), number, count(Table(clients), part))
                for place, clients in enumerate(fleet[1:])
            ]
            for answer in reversed([each for of_one in answers for each in of_one]):
                decoded = wire.decode_answer(answer)
                assert decoded is not None
                questions.answered(decoded)
            questions.heard(number, len(fleet) - 1)

        wanted = (
            set(asked) if question.names is not None else {name for one in fleet for name in one}
        )
        sums = {name: sum(one.get(name, 0) for one in fleet) for name in wanted}
        assert done == [{name: number for name, number in sums.items() if number}]
        assert questions.next_deadline() == float("inf")


def test_who_does_not_answer_is_waited_for_until_the_deadline() -> None:
    """The others are counted; a late answer, or one that comes twice, changes nothing."""
    done: list[Mapping[bytes, int]] = []
    questions = Questions(timeout_seconds=0.5)
    (number,) = questions.begin({b"c": 1}, 1, done.append, 10.0)
    questions.heard(number, 2)
    questions.answered(CensusAnswer(ONE, number, 0, 1, {b"c": 2}))
    questions.answered(CensusAnswer(ONE, number, 0, 1, {b"c": 2}))
    assert questions.next_deadline() == 10.5
    questions.expire(10.4)
    assert done == []
    questions.expire(10.5)
    questions.answered(CensusAnswer(TWO, number, 0, 1, {b"c": 4}))

    assert done == [{b"c": 3}]


def test_an_answer_counts_once_all_its_parts_have_come() -> None:
    """A sidecar with many names answers in parts; an incomplete answer does not count."""
    done: list[Mapping[bytes, int]] = []
    questions = Questions(timeout_seconds=1)
    (number,) = questions.begin({}, 1, done.append, 0)
    questions.heard(number, 1)
    clients = {b"%0500d" % name: 1 for name in range(300)}
    parts = wire.encode_answer(ONE, number, clients)
    assert len(parts) == 3
    for part in parts:
        assert done == []
        assert len(part) <= wire.MESSAGE_BYTES_MAX
        decoded = wire.decode_answer(part)
        assert decoded is not None
        questions.answered(decoded)

    assert done == [clients]


def test_a_fleet_of_one_is_not_waited_for() -> None:
    """The answer is complete once the node reports no other listener."""
    done: list[Mapping[bytes, int]] = []
    questions = Questions(timeout_seconds=1)
    (number,) = questions.begin({b"c": 1}, 1, done.append, 0)
    questions.heard(number, 0)

    assert done == [{b"c": 1}]


def test_long_questions_are_cut() -> None:
    """Every name is asked for once, in pieces that fit a message whatever the bytes."""
    question = Question(Space.CHANNELS, tuple(b"\xff" * 1000 + b"%d" % n for n in range(50)) * 2)
    found = pieces(question)

    assert [name for piece in found for name in piece.names or ()] == list(
        dict.fromkeys(question.names or ())
    )
    assert len(found) == 7
    for piece in found:
        assert sum(map(len, piece.names or ())) <= NAMES_BYTES_MAX
        raw = wire.encode_question(CensusQuestion(ONE, 1, piece))
        assert wire.decode_question(raw) == CensusQuestion(ONE, 1, piece)


def test_answers_have_an_end() -> None:
    """What does not fit the largest answer is left out."""
    clients = {b"%01000d" % name: 1 for name in range(10_000)}
    parts = wire.encode_answer(ONE, 1, clients)

    assert len(parts) == wire.PARTS_MAX
    assert sum(map(len, parts)) < wire.PARTS_MAX * wire.MESSAGE_BYTES_MAX


@given(
    st.binary(max_size=60)
    | st.sampled_from(
        [
            b"[" * 100_000,
            b'{"sidecar":"a","number":1,"part":0,"parts":65,"counts":{}}',
            b'{"sidecar":"a","number":1,"part":1,"parts":1,"counts":{}}',
            b'{"sidecar":"a","number":1,"part":0,"parts":1,"counts":{"a":-1}}',
            b'{"sidecar":"a","number":1,"part":0,"parts":1,"counts":{"\\u0100":1}}',
            b'{"sidecar":"","number":1,"part":0,"parts":1,"counts":{}}',
            b'{"sidecar":"\\ud800","number":1,"space":"channels"}',
            b'{"sidecar":"a b","number":1,"space":"channels"}',
            b'{"sidecar":"a","number":true,"space":"channels"}',
            b'{"sidecar":"a","number":1,"space":"moon"}',
            b'{"sidecar":"a","number":1,"space":[]}',
            b'{"sidecar":"a","number":1,"space":"channels","names":"x"}',
            b'{"sidecar":"a","number":1,"space":"channels","names":[1]}',
            b'{"sidecar":"a","number":1,"space":"channels","glob":null}',
            b" " * 200_000,
        ]
    )
)
def test_no_bytes_break_the_census(raw: bytes) -> None:
    """Any client with access to a node can publish there."""
    assert wire.decode_question(raw) is None
    assert wire.decode_answer(raw) is None
