"""What is kept: tables, migrations, the commit writer and named reads. SQLite today."""

from tidegate.store.batch import Committed
from tidegate.store.database import KeysInHand
from tidegate.store.findings import SCOPE, SEARCH, SEARCH_AGAIN, STANDING, Turn, Wanted
from tidegate.store.head import SCHEMA_MOVED, Head
from tidegate.store.mass import AT_ONCE
from tidegate.store.paces import Pace
from tidegate.store.queue import Share
from tidegate.store.reads import Someone, Waiting
from tidegate.store.rebuild import Difference, Rebuilt, compare, rebuild
from tidegate.store.store import Store
from tidegate.store.unsealed import Account, Token

__all__ = [
    "AT_ONCE",
    "SCHEMA_MOVED",
    "SCOPE",
    "SEARCH",
    "SEARCH_AGAIN",
    "STANDING",
    "Account",
    "Committed",
    "Difference",
    "Head",
    "KeysInHand",
    "Pace",
    "Rebuilt",
    "Share",
    "Someone",
    "Store",
    "Token",
    "Turn",
    "Waiting",
    "Wanted",
    "compare",
    "rebuild",
]
