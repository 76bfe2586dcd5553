"""Reads the configuration, wires the adapters, owns the real clock and randomness."""


def run() -> None:
    """The `tidegate` command."""
    from tidegate.main.machine import ThisMachine
    from tidegate.shell.cli import program

    program(ThisMachine())
