"""Output of the commands that is no more than a table or a line."""

from typing import TYPE_CHECKING, Any

from fanout.terminal.table import Column, as_table

if TYPE_CHECKING:  # the runtime is loaded only when it is needed
    from fanout.adjunct.purge import Answers

_EDGES = (Column("EDGE"), Column("OUTCOME"), Column("WHY"))


def say(text: str) -> None:
    """Write a line to standard output. Raises OutputFailed, which `fanout_cli.options.run` handles."""
    from fanout.terminal.output import write  # noqa: PLC0415 - not needed for help

    write(text + "\n")


def purge_values(answers: "Answers") -> dict[str, Any]:
    """Return the outcome of a purge as an object for JSON."""
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
    """Return the outcome of a purge, made by `purge_values`, as a table with a summary below."""
    edges = values["edges"]
    rows = [
        (edge, each["outcome"], ": ".join(filter(None, (each["code"], each["message"]))))
        for edge, each in edges.items()
    ]
    applied = sum(each["outcome"] == "applied" for each in edges.values())
    summary = f"purge {values['id']}: applied by {applied} of {len(edges)} edges"
    return "\n".join([*as_table(_EDGES, rows), "", summary])
