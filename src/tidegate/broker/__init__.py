"""The broker: what hands a person's processes the keys of an open grant, and stops at its end.

    material   the keys of one session and the three instants that bound them
    holding    keeps one grant's keys in memory: fresh while it is open, gone when it is over
    container  a loopback endpoint that AWS clients ask for keys, in front of a holding
    child      runs a command with that endpoint in its environment
    profiles   writes `~/.aws/config` entries that call `tidegate-credentials`

It decides nothing about permission: every key comes from the server, through callables the main
program wires. It holds no clock and no randomness of its own. Called by the command line.
"""
