"""Coverage-guided fuzzing of the pure cores: `python -m tests.fuzz TARGET --seconds N`.

A target is a plain function of bytes that raises when a promise is broken. The tests run the same
functions over Hypothesis' bytes and over the seeds, without atheris.
"""
