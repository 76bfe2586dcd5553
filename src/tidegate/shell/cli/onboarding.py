"""onboard: the roles and policies Tidegate needs in a cloud, printed for whoever sets it up."""

from dataclasses import replace
from pathlib import Path

import click

from tidegate.base.errors import AskedWrongly
from tidegate.shell.cli.command import Desk, Room, tool
from tidegate.shell.cli.hosting import CONFIG_NAME, config_option, installed
from tidegate.shell.cli.local import AwsAsked

FORMS = ("cloudformation", "terraform", "json")


@tool(
    "aws",
    ("tidegate onboard aws --emit terraform", "for the roles in ./tidegate.toml"),
    (
        "tidegate onboard aws --emit cloudformation -o tidegate.json",
        "a template for every account; deploy it with CAPABILITY_NAMED_IAM",
    ),
    (
        "tidegate onboard aws --emit json --role-arn arn:aws:iam::123456789012:role/tidegate/admin",
        "for a role by its ARN, without an installation",
    ),
    (
        "tidegate onboard aws --emit json --hub 111122223333 --region eu-central-1 "
        "--account 123456789012 --permission-set "
        "arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/ps-1234567890abcdef",
        "for a permission set assigned in an account",
    ),
)
@click.option("--emit", type=click.Choice(FORMS), default=None, help="The form. `--json` is json.")
@click.option("-o", "--output", metavar="FILE", default="", help="Write it there; replaces a file.")
@click.option("--role-arn", "roles", metavar="ARN", multiple=True, help="A role handed out.")
@click.option(
    "--permission-set", "sets", metavar="ARN", multiple=True, help="A permission set handed out."
)
@click.option(
    "--account", "accounts", metavar="DIGITS", multiple=True, help="Where sets are assigned."
)
@click.option("--hub", metavar="DIGITS", default="", help="What administers Identity Center.")
@click.option("--region", metavar="NAME", default="", help="Identity Center's region.")
@click.option("--instance", metavar="ARN", default="", help="Its instance; the sets name it too.")
@click.option("--identity-store", "store", metavar="ID", default="", help="Its identity store.")
@click.option(
    "--deny",
    type=click.Choice(("permission-set", "scp", "none")),
    default="permission-set",
    show_default=True,
    help="Where live sessions are cut.",
)
@click.option(
    "--scp", metavar="ARN", default="", help="Its own SCP, by id or ARN, for `--deny scp`."
)
@click.option("--no-schedules", is_flag=True, help="Without ends that AWS itself keeps.")
@config_option(None)
def aws(
    desk: Desk, emit: str | None, output: str, config: str | None, no_schedules: bool,
    **named: str | tuple[str, ...],
) -> None:  # fmt: skip
    """Print the rights of Tidegate's opener and closer on AWS, account by account."""
    form = _form(desk, emit)
    asked = replace(AwsAsked(schedules=not no_schedules), **named)  # type: ignore[arg-type]
    by_name = bool(asked.roles or asked.sets)
    if config and (by_name or asked.accounts):
        raise AskedWrongly(
            "usage",
            "expected `--config` or roles by name, got both",
            "leave one out: settings name their roles and accounts themselves",
        )
    at = None if by_name else installed(config or CONFIG_NAME)
    text = desk.local.onboard_aws(at, form, asked)
    if not output:
        click.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as fault:
        why = getattr(fault, "strerror", None) or "no such name is possible"
        raise AskedWrongly(
            "cannot_write", f"cannot write `{output[:200]}`: {why}", "name another file"
        ) from None
    desk.answer({"written": output, "form": form}, [f"written to {output}"])


def make_room() -> Room:
    """`tidegate onboard …`."""
    room = Room(
        "onboard",
        "What Tidegate needs in a cloud: exactly these roles and policies.",
        ("tidegate onboard aws --emit terraform", "for AWS, from ./tidegate.toml"),
    )
    room.add_command(aws)
    return room


def _form(desk: Desk, emit: str | None) -> str:
    if desk.as_json:
        if emit not in (None, "json"):
            raise AskedWrongly(
                "usage", f"expected `--json` or `--emit {emit}`, got both", "leave one out"
            )
        return "json"
    if emit is None:
        raise AskedWrongly(
            "usage",
            "expected `--emit` with cloudformation, terraform or json, got none",
            "see `tidegate onboard aws --help`, with examples at its end",
        )
    return emit
