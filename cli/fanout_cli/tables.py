"""What the commands show, and how it is written."""

from typing import TYPE_CHECKING, Any

from fanout.terminal.table import Column, as_table

if TYPE_CHECKING:  # the runtime is loaded only when it is needed
    from fanout.adjunct.purge import Answers

_EDGES = (Column("EDGE"), Column("OUTCOME"), Column("WHY"))


def say(text: str) -> None:
    """Write what was asked for on standard output. Raises OutputFailed, which `fanout_cli.options.run` knows."""
    from fanout.terminal.output import write  # noqa: PLC0415 - not needed for help

    write(text + "\n")


def purge_values(answers: "Answers") -> dict[str, Any]:
    """Return what became of a purge, as values of JSON."""
    return {
        "id": answers.purge.id,
        "kind": answers.purge.kind.value,
        "names": answers.purge.names,
        "whole": answers.whole,
        "edges": {
            edge: {"outcome": "silent", "code": "", "message": ""}
            if report is None
            else {
                "outcome": report.outcome.value,
                "code": report.code,
                "message": report.message,
            }
            for edge, report in sorted(answers.edges.items())
        },
    }


def purge_text(values: dict[str, Any]) -> str:
    """Return the same as a table, with the sum below it."""
    edges = values["edges"]
    rows = [
        (edge, each["outcome"], ": ".join(filter(None, (each["code"], each["message"]))))
        for edge, each in edges.items()
    ]
    applied = sum(each["outcome"] == "applied" for each in edges.values())
    sum_line = f"purge {values['id']}: applied by {applied} of {len(edges)} edges"
    return "\n".join([*as_table(_EDGES, rows), "", sum_line])
