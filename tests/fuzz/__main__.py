"""Runs one target under atheris, or once over each given file.

`pip install -e '.[test,fuzz]'`, then `python -m tests.fuzz resp --seconds 900`. It ends with the
count of executions, or with an exception and the name of a file that holds the input;
`python -m tests.fuzz resp FILE` runs that again. With `--corpus DIR` a later run goes on where this
one ends.
"""

import argparse
import sys
import tempfile
from pathlib import Path

INSTRUMENTED = ["fanout", "wsproto", "h11"]
LENGTH_MAX = 2048
"""Bytes of an input; every limit that is fuzzed is below."""


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=("resp", "websocket", "peers"))
    parser.add_argument("files", nargs="*", type=Path, help="inputs to run once, without atheris")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="where inputs are kept for the next run")
    arguments = parser.parse_args()
    if arguments.files:
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415

        for file in arguments.files:
            TARGETS[arguments.target].run(file.read_bytes())
        return
    with tempfile.TemporaryDirectory() as directory:
        fuzz(arguments.target, arguments.seconds, arguments.corpus, Path(directory))


def fuzz(name: str, seconds: int, corpus: Path | None, directory: Path) -> None:
    """Run a target until the time is over or a promise is broken."""
    import atheris  # noqa: PLC0415 - not needed to run files

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - this is where it is instrumented
    target = TARGETS[name]
    seeds, words = directory / "seeds", directory / "words"
    seeds.mkdir()
    for number, seed in enumerate(target.seeds):
        (seeds / f"{number:03}").write_bytes(seed)
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    kept = corpus or directory / "corpus"
    kept.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds,
        "max_len": LENGTH_MAX,
        "timeout": 10,
        "rss_limit_mb": 1024,
        "dict": words,
        "print_final_stats": 1,
        "artifact_prefix": f"{name}-",
    }
    flags = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(kept), str(seeds)], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
