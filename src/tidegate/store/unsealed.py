"""Small rows no event makes: documents, accounts, tokens, heartbeats.

Nothing here decides about access by itself: who may sign in is sealed as `principal.recorded` and
`token.made`, and a document is named by its own digest.
"""

from dataclasses import dataclass, field
from functools import cache

from sqlalchemy import Connection, RowMapping, bindparam, select

from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.store import schema
from tidegate.store.database import Raw
from tidegate.store.look import Look, Looked, Looking


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A local login. `password_hash` is an argon2id hash in its own text form."""

    login: str
    principal: str
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An API token. Only its `hash` is kept; `ended_at` is set when it was ended early."""

    id: str
    hash: str = field(repr=False)
    principal: str
    label: str
    made_at: Instant
    until: Instant
    ended_at: Instant | None = None


def keep_document(db: Raw, digest: str, kind: str, data: bytes) -> None:
    """Keep `data` under its digest; keeping it again changes nothing."""
    db.execute(
        "INSERT INTO documents (digest, kind, bytes) VALUES (?, ?, ?)"
        " ON CONFLICT (digest) DO NOTHING",
        (digest, kind, data),
    )


def account(db: Looking, login: str) -> Account | None:
    """The account of a login."""
    rows = _account().rows(db, wanted=login)
    return Account(**rows[0]) if rows else None


def accounts(db: Connection) -> list[Account]:
    """Every account, by login."""
    table = schema.accounts
    rows = db.execute(select(table).order_by(table.c.login))
    return [
        Account(login=row.login, principal=row.principal, password_hash=row.password_hash)
        for row in rows
    ]


def login_of(db: Looking, principal: str) -> str:
    """The login of a principal; empty when it has no local account."""
    rows = _login_of().rows(db, wanted=principal)
    return str(rows[0]["login"]) if rows else ""


def put_account(db: Raw, made: Account) -> None:
    """Make an account, or give it another password or principal."""
    db.execute(
        "INSERT INTO accounts (login, principal, password_hash) VALUES (?, ?, ?)"
        " ON CONFLICT (login) DO UPDATE SET principal = excluded.principal,"
        " password_hash = excluded.password_hash",
        (made.login, made.principal, made.password_hash),
    )


def change_password(db: Raw, before: Account, password_hash: str) -> bool:
    """Give an account another password, only while it is still as in `before`; whether it was."""
    changed = db.execute(
        "UPDATE accounts SET password_hash = ?"
        " WHERE login = ? AND principal = ? AND password_hash = ?",
        (password_hash, before.login, before.principal, before.password_hash),
    )
    return changed.rowcount == 1


def put_token_of(db: Raw, made: Token, verified: Account) -> bool:
    """`put_token`, only while `verified` is still the account and its principal enabled.

    One transaction looks and writes: a sign-in that began before a password was changed, or an
    account disabled, leaves no token behind it.
    """
    still = db.execute(
        "SELECT 1 FROM accounts JOIN principals ON principals.id = accounts.principal"
        " WHERE accounts.login = ? AND accounts.principal = ? AND accounts.password_hash = ?"
        " AND principals.enabled",
        (verified.login, made.principal, verified.password_hash),
    ).fetchone()
    if still is None:
        return False
    put_token(db, made)
    return True


def put_token(db: Raw, made: Token) -> None:
    """Keep a new token. Raises the driver's clash when id or hash is there already."""
    db.execute(
        "INSERT INTO tokens (id, hash, principal, label, made_at_ms, until_ms, ended_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            made.id,
            made.hash,
            made.principal,
            made.label,
            to_ms(made.made_at),
            to_ms(made.until),
            to_ms(made.ended_at) if made.ended_at else None,
        ),
    )


def end_token(db: Raw, name: str, at: Instant) -> None:
    """End a token. One that ended already keeps its first end."""
    db.execute(
        "UPDATE tokens SET ended_at_ms = ? WHERE id = ? AND ended_at_ms IS NULL", (to_ms(at), name)
    )


def token_by_hash(db: Looking, hashed: str) -> Token | None:
    """A token by the hash of its secret. Whether it is still good is for the caller to say.

    A look, since every call begins with it: a view is not to be had while others hold them all.
    """
    rows = _token_by_hash().rows(db, wanted=hashed)
    return _to_token(rows[0]) if rows else None


def tokens(db: Connection, principal: str) -> list[Token]:
    """Every token of a principal, oldest first, ended ones too."""
    table = schema.tokens
    query = select(table).where(table.c.principal == principal)
    rows = db.execute(query.order_by(table.c.made_at_ms, table.c.id)).mappings()
    return [_to_token(row) for row in rows]


def beat(db: Raw, name: str, at: Instant, detail: str) -> None:
    """Say that `name` is alive."""
    db.execute(
        "INSERT INTO heartbeats (name, at_ms, detail) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET at_ms = excluded.at_ms, detail = excluded.detail",
        (name, to_ms(at), detail),
    )


def forget_beats(db: Raw, kind: str, before: Instant) -> None:
    """Drop the beats named `kind`, or `kind:` and something, that came before `before`."""
    db.execute(
        "DELETE FROM heartbeats WHERE (name = ? OR name LIKE ?) AND at_ms < ?",
        (kind, f"{kind}:%", to_ms(before)),
    )


def beats(db: Looking) -> dict[str, tuple[Instant, str]]:
    """When each part of the house was last alive, and what it said."""
    rows = _beats().rows(db)
    return {row["name"]: (from_ms(row["at_ms"]), row["detail"]) for row in rows}


@cache
def _account() -> Look:
    return Look(select(schema.accounts).where(schema.accounts.c.login == bindparam("wanted")))


@cache
def _token_by_hash() -> Look:
    return Look(select(schema.tokens).where(schema.tokens.c.hash == bindparam("wanted")))


@cache
def _login_of() -> Look:
    table = schema.accounts
    return Look(select(table.c.login).where(table.c.principal == bindparam("wanted")))


@cache
def _beats() -> Look:
    return Look(select(schema.heartbeats).order_by(schema.heartbeats.c.name))


def _to_token(row: Looked | RowMapping) -> Token:
    ended_at = row["ended_at_ms"]
    return Token(
        id=row["id"],
        hash=row["hash"],
        principal=row["principal"],
        label=row["label"],
        made_at=from_ms(row["made_at_ms"]),
        until=from_ms(row["until_ms"]),
        ended_at=None if ended_at is None else from_ms(ended_at),
    )
