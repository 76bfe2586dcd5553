"""Who somebody is in the identity store: a user id, which is theirs alone and for ever.

By the table in the settings first; else by exactly one attribute that the settings name, asked of
the store. Never by a guess: a login that could be two people is refused.
"""

from collections.abc import Callable

from tidegate.base.errors import Refused
from tidegate.connectors.aws_calls import CloudNo
from tidegate.connectors.identity_center_calls import Center, missing, text_of
from tidegate.connectors.identity_center_settings import CenterSettings, Match
from tidegate.connectors.port import Person

# Identity Store API, GetUserId, UniqueAttribute: the paths it knows for users.
_PATHS = {Match.USER_NAME: "userName", Match.MAIL: "emails.value"}


def user_of(settings: CenterSettings, center: Callable[[], Center], person: Person) -> str:
    """The user id of `person`; the store is asked only when the table does not name them.

    Raises:
        Refused: `no_such_person`; what AWS refuses. Unreachable, Unknown.
    """
    if person.login and person.login in settings.users:
        return settings.users[person.login]
    if settings.match is Match.NONE:
        raise _nobody(person, "the table `identity_center.users`", "add their user id to it")
    value = person.login if settings.match is Match.USER_NAME else person.mail
    words = "user name" if settings.match is Match.USER_NAME else "mail address"
    if not value:
        raise _nobody(person, f"a {words}", "sign in again, or add their user id to the settings")
    attribute = {"AttributePath": _PATHS[settings.match], "AttributeValue": value}
    try:
        reply = center().call(
            "identitystore",
            "get_user_id",
            IdentityStoreId=settings.identity_store,
            AlternateIdentifier={"UniqueAttribute": attribute},
        )
    except CloudNo as no:
        if not missing(no):
            raise
        help = "make the user in Identity Center, or add their user id to the settings"
        raise _nobody(person, f"one user by this {words}", help) from no
    return text_of(reply.body, "UserId")


def _nobody(person: Person, expected: str, help: str) -> Refused:
    who = person.login or person.principal
    return Refused(
        "no_such_person", f"expected {expected} for `{who[:80]}` in Identity Center, got none", help
    )
