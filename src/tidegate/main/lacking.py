"""Why a database cannot be used here, where it is this shell that lacks what the server has."""

from tidegate.base.errors import TidegateError
from tidegate.main.config import NOT_THERE

ASKS = "asks for a password"  # as the store has it of a PostgreSQL server that got none


def lacking(fault: TidegateError) -> str:
    """The fault in words; of a secret that is missing, also that the database may be sound."""
    message = fault.message
    if ASKS in message:
        message = f"{message}; neither `[database] password` nor PGPASSWORD gives one here"
    elif fault.code != NOT_THERE:
        return message
    return f"{message}; the database may be sound, and with that it is used"
