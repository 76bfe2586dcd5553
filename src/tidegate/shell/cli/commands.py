"""Every command under the headings of the help, and the one call that runs them."""

from typing import NoReturn

from tidegate.shell.cli import (
    asking,
    deciding,
    evidence,
    extending,
    findings,
    hosting,
    looking,
    onboarding,
    panicking,
    proving,
    reporting,
    signing,
    signing_off,
    using,
)
from tidegate.shell.cli.command import Program
from tidegate.shell.cli.local import Local


def program(local: Local) -> NoReturn:
    """Run the command line with the process's own arguments; leaves with an exit code."""
    make_program(local)()
    raise RuntimeError("the command line came back")


def make_program(local: Local) -> Program:
    """The command `tidegate`, for `program`, tests and documentation."""
    return Program(
        local,
        {
            "Ask": (
                asking.targets,
                asking.request,
                asking.requests,
                asking.withdraw,
                extending.extend,
            ),
            "Decide": (deciding.approve, deciding.deny),
            "Use": (using.grants, using.run, using.shell, using.credentials, using.profiles),
            "End": (using.done, panicking.revoke, panicking.unfreeze, signing_off.sign_off),
            "Prove": (
                proving.trace,
                proving.verify,
                looking.paths,
                proving.doctor,
                findings.make_room(),
                reporting.make_room(),
                evidence.make_room(),
            ),
            "Sign in": (signing.login, signing.logout, signing.whoami),
            "Run a server": (
                hosting.init,
                hosting.serve,
                hosting.worker,
                hosting.check,
                onboarding.make_room(),
                hosting.make_room(),
                panicking.recover,
                hosting.demo,
            ),
        },
        ("tidegate demo", "the whole path on a sandbox cloud, in about a minute"),
        ("tidegate login https://tidegate.example", "sign in; then see `tidegate targets`"),
        (
            'tidegate request aws-prod/admin --for 45m --reason "roll back" --wait',
            "ask, and stay until access is open",
        ),
        ("tidegate exec gr_01j… -- aws s3 ls", "use it; it ends by itself"),
    )
