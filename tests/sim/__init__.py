"""Simulated fleets: random schedules of changes and faults, and checkers over what happened.

`python -m tests.sim --seeds 1000` runs seeds 0 to 999; a seed that fails is printed with its
history, and `python -m tests.sim --seed N` runs that one again, the same in every detail.
"""
