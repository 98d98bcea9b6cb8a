"""Positions of MariaDB and PostgreSQL: read, compared, refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.adjunct.flavours import POSITION_MAX, Position
from fanout.adjunct.topology import DatabaseError

NUMBERS = st.integers(0, 2**64 - 1)
SMALL = st.integers(0, 2**32 - 1)
LSNS = st.builds("{:X}/{:X}".format, SMALL, SMALL)
GTIDS = st.builds("{}-{}-{}".format, SMALL, SMALL, NUMBERS)
TEXTS = LSNS | st.lists(GTIDS, max_size=POSITION_MAX // 50).map(",".join)


@given(TEXTS)
def test_what_is_read_is_written_again(text: str) -> None:
    """And covers itself."""
    assert Position.parse(text).text == text
    assert Position.parse(text).covers(Position.parse(text))


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("0-1-42", {"0": 42}),
        ("0-1-42,7-2-3", {"0": 42, "7": 3}),
        ("0-1-42, 7-2-3", {"0": 42, "7": 3}),
        ("", {}),
        ("16/B374D848", {"": 0x16_B374_D848}),
        ("0/0", {"": 0}),
    ],
)
def test_the_forms_of_both(text: str, reached: dict[str, int]) -> None:
    """As the servers write them."""
    assert Position.parse(text).reached == reached


@pytest.mark.parametrize(
    ("reached", "wanted", "covers"),
    [
        ("0-1-42", "0-1-42", True),
        ("0-1-43", "0-1-42", True),
        ("0-1-41", "0-1-42", False),
        ("0-2-43", "0-1-42", True),  # another primary went on counting
        ("0-1-42", "1-1-1", False),  # nothing of that domain
        ("0-1-42,1-1-1", "1-1-1", True),
        ("0-1-42", "0-1-41,1-1-1", False),
        ("0-1-42", "", True),
        ("", "0-1-1", False),
        ("1/0", "0/FFFFFFFF", True),
        ("0/FFFFFFFF", "1/0", False),
        ("0/A", "0/A", True),
        ("0/FF", "0-1-1", False),  # positions of different kinds do not compare
        ("0-1-1", "0/1", False),
    ],
)
def test_who_has_what(reached: str, wanted: str, *, covers: bool) -> None:
    """Domain by domain; which server wrote does not matter."""
    assert Position.parse(reached).covers(Position.parse(wanted)) is covers


@pytest.mark.parametrize(
    "text",
    ["0", "0-1", "0-1-", "0-1-2-3", "0-1-2,", ",", "-1-1-1", "0-1-x", "x/1", "/1", "1/", "1/123456789",
     "0-1-" + "9" * 21, "\u0660-\u0661-\u0662", "0-1-2\n", "0-1-1," * POSITION_MAX],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    """They may come from outside; the message repeats only the beginning."""
    with pytest.raises(DatabaseError, match="invalid position") as refused:
        Position.parse(text)
    assert refused.value.code == "POSITION_INVALID"
    assert len(str(refused.value)) < 300
