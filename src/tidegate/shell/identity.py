"""Who is at the door: local accounts, sign-in, API tokens.

Decides whether a password or a token is somebody's, and nothing about what they may do. Passwords
are kept as argon2id, tokens as SHA-256 only: neither can be read back. Called by the API and, on
the server's own machine, by the account commands.
"""

import hashlib
import re
import threading
import unicodedata
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from tidegate.base.errors import AskedWrongly, NotAllowed, NotFound, NotSignedIn, WorldFailed
from tidegate.base.fact import SYSTEM, Fact, Step
from tidegate.base.ids import TOKEN
from tidegate.base.text import LONGEST_NAME, clean_name, clean_text
from tidegate.base.when import Instant, wire
from tidegate.catalogue import Principal
from tidegate.flow.house import Actor, House
from tidegate.flow.people import LOCAL, actor, join_groups, record
from tidegate.store import Account, Token

SUBJECT_BYTES = 16  # of a local principal: never the same twice, and nobody's name
TOKEN_LIFE = timedelta(hours=12)  # a long working day; a token found the day after opens nothing
TOKEN_BYTES = 32
MOST_LIVE_TOKENS = 32  # of one principal: every machine they work from, and some forgotten ones
LONGEST_LABEL = 80
SHORTEST_PASSWORD = 12  # characters
LONGEST_PASSWORD = 256  # a sentence fits; hashing a megabyte does not
SALT_BYTES = 16  # RFC 9106, section 3.1

TRY_WINDOW = timedelta(minutes=10)
MOST_TRIES = 10  # of one login from one source in a window: typing errors, not guessing
MOST_TRIES_OF_LOGIN = 100  # from everywhere: guessing from many places at once
MOST_TRIES_OF_SOURCE = 200  # an office behind one address signs in without meeting it
MOST_COUNTED = 10_000  # counters kept; newcomers beyond that share one
SWEEP_EVERY = timedelta(seconds=10)  # full counters are walked no more often than this
OTHERS = ("others",)
HASHES_AT_ONCE = 2  # each takes 64 MB and a fifth of a second of four threads
MOST_WAITING_TO_HASH = 16  # threads of the API a rush of sign-ins may keep busy

# RFC 5322, section 3.2.3 (dot-atom) and RFC 1123, section 2.1: what every mail system reads alike.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_MAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_TOKEN = re.compile(r"tdg_[A-Za-z0-9_-]{43}", re.ASCII)
# Verified for logins nobody has, so that they take as long as the others. No password fits it.
_NOBODY = f"$argon2id$v=19$m=65536,t=3,p=4${'A' * 22}${'A' * 43}"
# RFC 9106, section 4: the second recommended option.
_HASHER = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=4)


class Tries:
    """How often signing in was tried lately, and how many passwords are being hashed.

    In memory on purpose: a restart forgives. Bounded by MOST_COUNTED.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], tuple[Instant, int]] = {}
        self._swept_at: Instant | None = None
        self._hashing = threading.BoundedSemaphore(HASHES_AT_ONCE)
        self._waiting = threading.BoundedSemaphore(HASHES_AT_ONCE + MOST_WAITING_TO_HASH)

    def admit(self, login: str, source: str, now: Instant) -> None:
        """Count a try. Raises NotAllowed `too_many_tries`, told the same for every login.

        A refused try is counted nowhere: one source spends at most MOST_TRIES of what a login has
        from everywhere, and whoever is refused gets in when the window has passed.
        """
        counters = _counters(login, source)
        with self._lock:
            full = any(self._counted(key, now)[1] >= most for key, most in counters.items())
            if not full:
                for key in counters:
                    self._count(key, now)
        if full:
            raise NotAllowed(
                "too_many_tries",
                "signing in was tried too often with this login or from this address",
                f"wait {TRY_WINDOW // timedelta(minutes=1)} minutes, then try again",
            )

    def forgive(self, login: str, source: str) -> None:
        """It was the right password: the tries before it were typing errors."""
        pair, *others = _counters(login, source)
        with self._lock:
            self._counts.pop(pair, None)
            for key in others:
                if key in self._counts:
                    since, count = self._counts[key]
                    self._counts[key] = (since, max(0, count - 1))

    @contextmanager
    def hashing(self) -> Iterator[None]:
        """Wait for a turn to hash. Raises WorldFailed when too many are waiting already."""
        if not self._waiting.acquire(blocking=False):
            raise WorldFailed("busy", "too many are signing in at this moment", "try again")
        try:
            with self._hashing:
                yield
        finally:
            self._waiting.release()

    def _counted(self, key: tuple[str, ...], now: Instant) -> tuple[Instant, int]:
        """Since when, and how many tries of `key` in the running window."""
        since, count = self._counts.get(self._place(key, now), (now, 0))
        return (now, 0) if now - since >= TRY_WINDOW else (since, count)

    def _count(self, key: tuple[str, ...], now: Instant) -> None:
        since, count = self._counted(key, now)
        self._counts[self._place(key, now)] = (since, count + 1)

    def _place(self, key: tuple[str, ...], now: Instant) -> tuple[str, ...]:
        """Where `key` is counted: apart, or with the others when there is no room."""
        if key not in self._counts and len(self._counts) >= MOST_COUNTED:
            self._sweep(now)
            if len(self._counts) >= MOST_COUNTED:
                return OTHERS
        return key

    def _sweep(self, now: Instant) -> None:
        if self._swept_at is not None and now - self._swept_at < SWEEP_EVERY:
            return
        self._swept_at = now
        self._counts = {
            key: counted for key, counted in self._counts.items() if now - counted[0] < TRY_WINDOW
        }


def sign_in(
    house: House, tries: Tries, login: str, password: str, label: str, source: str
) -> tuple[str, Token]:
    """Exchange a password for a token: (its text, said once and never again; what is kept).

    An unknown login, a wrong password and a disabled account are answered alike, after the same
    work.

    Raises:
        NotSignedIn: `bad_credentials`.
        NotAllowed: `too_many_tries`.
        AskedWrongly: a label that is too long or hides things.

    NB. verifying takes long. A password changed or an account disabled meanwhile wins: the token
    is kept only while the verified hash is still the account's.
    """
    now = house.now()
    shown = clean_text("label", label, LONGEST_LABEL) if label.strip() else "api"
    tries.admit(login, source, now)
    # NB. nothing is folded: `Ana` is not `ana`, so no spelling of a login has counters of its own.
    account = house.store.account(login)
    with tries.hashing():
        fits = _verify(account.password_hash if account else _NOBODY, password)
    if account is None or not fits or not house.store.principal(account.principal).enabled:
        raise _none_that_fit()
    made = make_token(house, account.principal, shown, now, verified=account)
    tries.forgive(login, source)
    if _HASHER.check_needs_rehash(account.password_hash):
        with tries.hashing():
            house.store.change_password(account, _hash(house, password))
    return made


def make_token(
    house: House, principal: str, label: str, now: Instant, verified: Account | None = None
) -> tuple[str, Token]:
    """A new token of `principal`, sealed before it can be used.

    Beyond MOST_LIVE_TOKENS the oldest live one ends.

    Args:
        house: the ports.
        principal: whose token.
        label: names it in lists.
        now: when it begins.
        verified: the account whose password was verified for it.

    Raises:
        NotSignedIn: `bad_credentials`: `verified` is not what the account is now.
    """
    text = "tdg_" + urlsafe_b64encode(house.randomness(TOKEN_BYTES)).rstrip(b"=").decode()
    token = Token(
        id=house.new_id(TOKEN, now),
        hash=token_hash(text),
        principal=principal,
        label=label,
        made_at=now,
        until=now + TOKEN_LIFE,
    )
    live = [old for old in house.store.tokens(principal) if _is_live(old, now)]
    for old in live[: max(0, len(live) + 1 - MOST_LIVE_TOKENS)]:
        end_token(house, old, now)
    data = {"until": wire(token.until), **_named(token, now)}
    house.store.commit(Step((), (_fact("token.made", token, data),)))
    if not house.store.put_token(token, verified):
        house.store.commit(Step((), (_fact("token.ended", token, _named(token, now)),)))
        raise _none_that_fit()
    return text, token


def end_token(house: House, token: Token, now: Instant) -> None:
    """End a token early. It is unusable before that is sealed: ending is never gated."""
    house.store.end_token(token.id, now)
    house.store.commit(Step((), (_fact("token.ended", token, _named(token, now)),)))


def token_of(house: House, bearer: str | None) -> Token:
    """The live token `bearer` is the text of.

    Raises:
        NotSignedIn: `no_token`, `bad_token` (unknown or ended) or `token_expired`.
    """
    if not bearer:
        raise NotSignedIn("no_token", "expected a token, got none", "sign in: `tidegate login`")
    token = house.store.token_by_hash(token_hash(bearer)) if _TOKEN.fullmatch(bearer) else None
    if token is None or token.ended_at is not None:
        raise NotSignedIn(
            "bad_token", "expected a token of this installation, got another", "`tidegate login`"
        )
    if house.now() >= token.until:
        raise NotSignedIn(
            "token_expired", f"this token ended at {wire(token.until)}", "`tidegate login`"
        )
    return token


def who(house: House, bearer: str | None) -> Actor:
    """Who holds the token, as known now.

    Raises:
        NotSignedIn: as `token_of` tells, or `disabled`.
    """
    return actor(house, token_of(house, bearer).principal)


def token_hash(text: str) -> str:
    """What is kept of a token: the hex SHA-256. 256 random bits need no salt and no stretching."""
    return hashlib.sha256(text.encode()).hexdigest()


def add_account(
    house: House, login: str, password: str, name: str = "", mail: str = ""
) -> Principal:
    """Make a local account, in the groups the groups file names it in.

    Raises:
        AskedWrongly: a bad login, name, address or password, or the login is taken.
    """
    clean_name("login", login)
    if house.store.account(login) is not None:
        raise AskedWrongly(
            "login_taken", f"`{login}` is there already", "use another login, or set its password"
        )
    name = clean_text("name", name, LONGEST_NAME) if name.strip() else ""
    mail = _clean_mail(mail) if mail.strip() else ""
    hashed = _hash(house, _clean_password(password))
    now = house.now()
    made = record(house, LOCAL, house.randomness(SUBJECT_BYTES).hex(), now, name=name, mail=mail)
    house.store.put_account(Account(login=login, principal=made.id, password_hash=hashed))
    join_groups(house, house.laws.groups, now)
    return made


def set_password(house: House, login: str, password: str, by: str = SYSTEM) -> None:
    """Give an account another password; its tokens end.

    Sealed first, like making a token: a crash between the two leaves a change that is on record
    and was not made, never one that was made and is not.

    Args:
        house: the ports.
        login: whose.
        password: the new one.
        by: the principal who sets it; the account commands on the server's own machine do so as
            the house itself.

    Raises:
        NotFound: no such account.
        AskedWrongly: a bad password.
    """
    account = _account(house, login)
    hashed = _hash(house, _clean_password(password))
    data = {"principal": account.principal, "by": by, "at": wire(house.now())}
    fact = Fact(name="account.password_set", subject=account.principal, actor=by, data=data)
    house.store.commit(Step((), (fact,)))
    house.store.put_account(replace(account, password_hash=hashed))
    _end_all(house, account.principal)


def disable(house: House, login: str) -> Principal:
    """Nobody signs in as `login` any more; its tokens end, its votes stop counting.

    Grants it holds are not ended by this: revoke them.

    Raises:
        NotFound: no such account.
    """
    account = _account(house, login)
    changed = _set_enabled(house, account, enabled=False)
    _end_all(house, account.principal)
    return changed


def enable(house: House, login: str) -> Principal:
    """`login` may sign in again, with a new token. Raises NotFound."""
    return _set_enabled(house, _account(house, login), enabled=True)


def _set_enabled(house: House, account: Account, *, enabled: bool) -> Principal:
    known = house.store.principal(account.principal)
    name = house.store.text(known.name) if known.name else ""
    mail = house.store.text(known.mail) if known.mail else ""
    return record(
        house,
        known.issuer,
        known.subject,
        house.now(),
        name=name or "",
        mail=mail or "",
        enabled=enabled,
    )


def _account(house: House, login: str) -> Account:
    account = house.store.account(login)
    if account is None:
        raise NotFound(
            "unknown_login", f"expected the login of an account, got `{login[:40]}`", "add it first"
        )
    return account


def _none_that_fit() -> NotSignedIn:
    return NotSignedIn(
        "bad_credentials", "expected a login with its password, got none that fit", "try again"
    )


def _end_all(house: House, principal: str) -> None:
    now = house.now()
    for token in house.store.tokens(principal):
        if _is_live(token, now):
            end_token(house, token, now)


def _is_live(token: Token, now: Instant) -> bool:
    return token.ended_at is None and now < token.until


def _counters(login: str, source: str) -> dict[tuple[str, ...], int]:
    """What a try is counted under, and the most of each; the pair comes first."""
    name = login[:LONGEST_NAME]
    return {
        ("pair", name, source): MOST_TRIES,
        ("login", name): MOST_TRIES_OF_LOGIN,
        ("source", source): MOST_TRIES_OF_SOURCE,
    }


def _hash(house: House, password: str) -> str:
    return _HASHER.hash(_same_spelling(password), salt=house.randomness(SALT_BYTES))


def _verify(hashed: str, password: str) -> bool:
    if len(password) > LONGEST_PASSWORD:
        password = ""  # the same work as any other wrong one
    try:
        return _HASHER.verify(hashed, _same_spelling(password))
    except (VerificationError, InvalidHashError):
        return False


def _same_spelling(password: str) -> str:
    """NFC, as RFC 8265 (section 4.2) asks: one password, whatever keyboard composed it."""
    return unicodedata.normalize("NFC", password)


def _clean_password(password: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise AskedWrongly(
            "bad_password",
            f"expected a password of {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters, "
            f"got {len(password)}",
            "a few words are easier to keep in mind than signs",
        )
    return password


def _clean_mail(mail: str) -> str:
    """An address in ASCII: two accounts are one person by it, and letters of other alphabets look
    like Latin ones without being them, which no folding can tell.
    """
    kept = clean_text("mail", mail, LONGEST_NAME)
    if _MAIL.fullmatch(kept):
        return kept
    raise AskedWrongly(
        "bad_mail",
        f"expected an e-mail address in ASCII letters like `name@example.org`, got `{kept[:40]}`",
        "leave quotes and comments out; write an international domain in its `xn--` form",
    )


def _named(token: Token, now: Instant) -> dict[str, str]:
    return {"principal": token.principal, "token": token.id, "at": wire(now)}


def _fact(name: str, token: Token, data: dict[str, str]) -> Fact:
    return Fact(name=name, subject=token.principal, actor=token.principal, data=data)


def check_account(login: str, password: str, mail: str = "", name: str = "") -> None:
    """Refuse what `add_account` would refuse of these texts, before anything is made.

    Raises:
        AskedWrongly: a bad login, password, address or name.
    """
    clean_name("login", login)
    _clean_password(password)
    if mail.strip():
        _clean_mail(mail)
    if name.strip():
        clean_text("name", name, LONGEST_NAME)
