"""Attacks on the commands, repeated by one: kills at every event, damaged and hostile files, values of flags.

    python -m tests.reliability kills | files | flags [--n N] [--seed S] [--only TEXT] [--all]

Counts go to stdout, every bad case in a line; exit status 1 when there is one.  docs/reliability.md says what
is tried and what was found.
"""
