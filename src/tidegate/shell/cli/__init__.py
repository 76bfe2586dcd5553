"""The command line: parse, one call of the API, render.

    commands    every command, under the headings of the help; `program` runs them
    command     what all commands share: `--json`, examples, errors as two lines
    exits       the table of exit codes
    client      the HTTP client; answer: what it brings, read without trusting it
    printing    text for terminals; showing: requests, grants and targets in it
    signing     login, logout, whoami
    asking      targets, request, requests, withdraw; waiting: `request --wait`
    deciding    approve, deny
    using       grants, exec, shell, credentials, profiles, done, revoke
    proving     trace, verify, doctor
    evidence    evidence …; remembering: what this client saw of a server's log
    hosting     init, serve, check, demo, account: through `local.Local`, which `main` wires

A client of the API but for what runs on the server's own machine. It decides nothing about access.
Commands start fast because whatever is heavy is imported where it is used.
"""

from tidegate.shell.cli.commands import program

__all__ = ["program"]
