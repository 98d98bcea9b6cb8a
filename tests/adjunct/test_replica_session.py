"""Which statements only read; everything in doubt counts as a write."""

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    delete,
    exists,
    func,
    insert,
    lambda_stmt,
    literal,
    select,
    text,
    union,
    update,
)

from fanout.adjunct.replicas import only_reads

ITEM = Table("item", MetaData(), Column("id", Integer, primary_key=True))

READS = {
    "select": select(ITEM),
    "with parts as text": select(text("@@port")).where(text("1 = 1")),
    "function": select(func.count()).select_from(ITEM),
    "union": union(select(ITEM), select(ITEM)),
    "cte": select(select(ITEM).cte("c")),
    "subquery": select(ITEM).where(ITEM.c.id.in_(select(ITEM.c.id))),
    "exists": select(exists(select(ITEM))),
    "literal": select(literal(1)),
}
WRITES = {
    "none": None,
    "text": text("SELECT 1"),
    "insert": insert(ITEM),
    "update": update(ITEM),
    "delete": delete(ITEM),
    "for update": select(ITEM).with_for_update(),
    "for share": select(ITEM).with_for_update(read=True),
    "for update inside": select(select(ITEM).with_for_update().subquery()),
    "union of for update": union(select(ITEM).with_for_update(), select(ITEM)),
    "insert in a cte": select(insert(ITEM).returning(ITEM.c.id).cte("c")),
    "delete in a subquery of a cte": select(
        select(delete(ITEM).returning(ITEM.c.id).cte("inner")).cte("outer")
    ),
    "insert from select": insert(ITEM).from_select(["id"], select(ITEM.c.id)),
    "ddl": func.nothing(),
    "lambda": lambda_stmt(lambda: select(ITEM)),
    "lambda of an update": lambda_stmt(lambda: update(ITEM)),
    "lambda of for update": lambda_stmt(lambda: select(ITEM).with_for_update()),
}


@pytest.mark.parametrize("name", READS)
def test_reads(name: str) -> None:
    """They may go to a replica."""
    assert only_reads(READS[name])


@pytest.mark.parametrize("name", WRITES)
def test_writes(name: str) -> None:
    """They must not."""
    assert not only_reads(WRITES[name])
