"""Accounts, sign-in and tokens: what must never be taken for somebody."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from tests.support import START, World
from tidegate.base.errors import AskedWrongly, NotAllowed, NotFound, NotSignedIn, WorldFailed
from tidegate.base.fact import SYSTEM
from tidegate.catalogue import Principal
from tidegate.evidence.seal import read_event
from tidegate.shell import identity
from tidegate.shell.identity import (
    HASHES_AT_ONCE,
    MOST_COUNTED,
    MOST_LIVE_TOKENS,
    MOST_TRIES,
    MOST_TRIES_OF_LOGIN,
    MOST_TRIES_OF_SOURCE,
    MOST_WAITING_TO_HASH,
    TOKEN_LIFE,
    TRY_WINDOW,
    Tries,
    add_account,
    disable,
    enable,
    end_token,
    make_token,
    set_password,
    sign_in,
    token_hash,
    token_of,
    who,
)
from tidegate.store import Token

PASSWORD = "correct horse battery"


def names(world: World, principal: str) -> list[str]:
    """The names of the events of a principal's chain."""
    return [read_event(leaf).name for _, leaf in world.house.store.events(principal)]


def token(world: World, login: str = "ana") -> tuple[str, Token]:
    """A token without a password."""
    return make_token(world.house, world.who(login).id, "test", world.house.now())


def test_account_that_can_sign_in_and_out(world: World) -> None:
    """A new account signs in, is in its groups, and its token dies with the sign-out."""
    made = add_account(world.house, "new.one", PASSWORD, "New One", "new@x.invalid")
    text, kept = sign_in(world.house, Tries(), "new.one", PASSWORD, "laptop", "127.0.0.1")
    assert (kept.label, kept.until - kept.made_at) == ("laptop", TOKEN_LIFE)
    assert who(world.house, text).id == made.id
    end_token(world.house, kept, world.house.now())
    with pytest.raises(NotSignedIn, match="got another"):
        who(world.house, text)
    assert names(world, made.id) == ["principal.recorded", "token.made", "token.ended"]


def test_account_made_before_its_groups_are_read(world: World) -> None:
    """An account named in the groups file is in its groups at once; a taken login stays whole."""
    add_account(world.house, "late", PASSWORD)
    assert world.who("late").groups == {"sre"}
    with pytest.raises(AskedWrongly, match="`late` is there already"):
        add_account(world.house, "late", "another long password")


def test_login_that_looks_like_another(world: World) -> None:
    """No spelling of a login but the exact one makes an account."""
    for login in ("Ana", "ana ", "\u0430na", "an\u200ba", "\uff21NA", "", "ana\x00", "x" * 65):
        with pytest.raises(AskedWrongly, match="login"):
            add_account(world.house, login, PASSWORD)


@pytest.mark.parametrize("password", ["", "short", "x" * 11, "x" * 257])
def test_password_too_short_or_long(world: World, password: str) -> None:
    """A password has 12 to 256 characters, and is not in the message."""
    with pytest.raises(AskedWrongly) as refused:
        add_account(world.house, "new", password)
    assert refused.value.code == "bad_password"
    assert not password or password not in refused.value.message


def test_wrong_unknown_and_disabled_told_apart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown login costs a verification too, and all three failures read the same."""
    add_account(world.house, "off", PASSWORD)
    disable(world.house, "off")
    verified: list[str] = []

    def verify(hashed: str, password: str) -> bool:
        verified.append(hashed)
        return hashed != identity._NOBODY and password == PASSWORD

    monkeypatch.setattr(identity, "_verify", verify)
    told = set()
    for login, password in (("off", PASSWORD), ("off", "wrong"), ("nobody.here", PASSWORD)):
        with pytest.raises(NotSignedIn) as refused:
            sign_in(world.house, Tries(), login, password, "", "127.0.0.1")
        told.add((refused.value.code, refused.value.message, refused.value.help))
    assert len(told) == 1
    assert len(verified) == 3
    assert verified[2] == identity._NOBODY


def test_nobody_that_a_password_fits() -> None:
    """The stand-in hash is a real one of the same cost, and nothing fits it."""
    assert not identity._verify(identity._NOBODY, "")
    assert not identity._HASHER.check_needs_rehash(identity._NOBODY)


def test_disabled_account_that_keeps_its_tokens(world: World) -> None:
    """Disabling ends every token for good; name and mail survive it."""
    add_account(world.house, "gone.soon", PASSWORD, "Gone Soon", "soon@x.invalid")
    text, _ = token(world, "gone.soon")
    before = world.who("gone.soon")
    disable(world.house, "gone.soon")
    with pytest.raises(NotSignedIn):
        who(world.house, text)
    assert enable(world.house, "gone.soon").enabled
    with pytest.raises(NotSignedIn):
        who(world.house, text)
    assert world.who("gone.soon").person == before.person == "mail:soon@x.invalid"
    with pytest.raises(NotFound):
        disable(world.house, "never.was")


def test_new_password_that_leaves_old_tokens(world: World) -> None:
    """A new password ends what the old one opened."""
    add_account(world.house, "new", PASSWORD)
    text, _ = token(world, "new")
    set_password(world.house, "new", "another long password")
    with pytest.raises(NotSignedIn):
        who(world.house, text)
    with pytest.raises(NotSignedIn):
        sign_in(world.house, Tries(), "new", PASSWORD, "", "127.0.0.1")


def test_token_one_instant_too_old(world: World) -> None:
    """A token works until its end and not at it."""
    text, kept = token(world)
    world.clock.at = kept.until - timedelta(milliseconds=1)
    assert who(world.house, text)
    world.clock.at = kept.until
    with pytest.raises(NotSignedIn) as refused:
        who(world.house, text)
    assert refused.value.code == "token_expired"


@given(st.one_of(st.text(max_size=60), st.from_regex(r"tdg_[A-Za-z0-9_-]{43}", fullmatch=True)))
def test_text_that_is_no_token(text: str) -> None:
    """Nothing but a token's exact text is looked up at all, and no guess is one."""
    asked: list[str] = []

    class Store:
        def token_by_hash(self, hashed: str) -> None:
            asked.append(hashed)

    class House:
        store = Store()

    with pytest.raises(NotSignedIn) as refused:
        token_of(House(), text)  # type: ignore[arg-type]
    assert refused.value.code in ("no_token", "bad_token")
    assert asked in ([], [token_hash(text)])
    assert not text or text not in refused.value.message or len(text) < 20


@pytest.mark.only("sqlite")  # all of it is in one file
def test_token_text_kept_in_the_database(world: World) -> None:
    """Only the hash of a token is on disk, not even a part of its text, nor in the evidence."""
    text, _ = token(world)
    world.down()
    stored = (world.directory / "tidegate.db").read_bytes()
    assert text.encode() not in stored
    assert text[4:24].encode() not in stored
    assert token_hash(text).encode() in stored
    world._up()


def test_tokens_without_end(world: World) -> None:
    """Beyond the bound the oldest live token ends, and that is sealed."""
    first, _ = token(world)
    for _ in range(MOST_LIVE_TOKENS - 1):
        world.clock.forward(seconds=1)
        last, _ = token(world)
    assert who(world.house, first)
    token(world)
    with pytest.raises(NotSignedIn):
        who(world.house, first)
    assert who(world.house, last)
    assert names(world, world.who("ana").id).count("token.ended") == 1


def test_guessing_one_login_from_one_place() -> None:
    """After so many tries there is no more, until the window is over; others are not touched."""
    tries = Tries()
    for _ in range(MOST_TRIES):
        tries.admit("ana", "here", START)
    with pytest.raises(NotAllowed, match="too often"):
        tries.admit("ana", "here", START)
    tries.admit("bo", "here", START)
    tries.admit("ana", "there", START)
    tries.admit("ana", "here", START + TRY_WINDOW)


def test_guessing_from_many_places_or_at_many_logins() -> None:
    """Spreading guesses over sources, or over logins, meets a bound of its own."""
    tries = Tries()
    for number in range(MOST_TRIES_OF_LOGIN):
        tries.admit("ana", f"10.0.0.{number}", START)
    with pytest.raises(NotAllowed):
        tries.admit("ana", "10.1.1.1", START)
    for number in range(MOST_TRIES_OF_SOURCE):
        tries.admit(f"login{number}", "here", START)
    with pytest.raises(NotAllowed):
        tries.admit("another", "here", START)


def test_one_source_that_locks_a_login_out() -> None:
    """However often one place guesses at a login, its owner gets in from another."""
    tries = Tries()
    for _ in range(2 * MOST_TRIES_OF_LOGIN):
        with suppress(NotAllowed):
            tries.admit("ana", "there", START)
    tries.admit("ana", "here", START)


def test_counting_without_end() -> None:
    """Memory for counters is bounded, and full memory refuses rather than forgets."""
    tries = Tries()
    refused = 0
    for number in range(MOST_COUNTED):
        try:
            tries.admit(f"login{number}", f"source{number}", START)
        except NotAllowed:
            refused += 1
    assert len(tries._counts) <= MOST_COUNTED + 1
    assert refused > 0
    tries.admit("fresh", "fresh", START + TRY_WINDOW)


def test_right_password_that_stays_counted() -> None:
    """A right password forgives the typing errors before it."""
    tries = Tries()
    for _ in range(3):
        for _ in range(MOST_TRIES):
            tries.admit("ana", "here", START)
        tries.forgive("ana", "here")
    assert tries._counts[("source", "here")][1] < 3 * MOST_TRIES


def test_rush_of_sign_ins_that_takes_every_thread() -> None:
    """Only so many wait for a hash; the next one is told to come back."""
    tries = Tries()
    for _ in range(HASHES_AT_ONCE + MOST_WAITING_TO_HASH):
        assert tries._waiting.acquire(blocking=False)
    with pytest.raises(WorldFailed, match="too many"), tries.hashing():
        pass


def test_password_composed_by_another_keyboard(world: World) -> None:
    """The same letters are the same password, composed or not."""
    add_account(world.house, "new", "pässword of mine")
    text, _ = sign_in(world.house, Tries(), "new", "pässword of mine", "", "x")
    assert who(world.house, text)


def test_sign_in_in_flight_that_survives_a_reset(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password verified before it was changed mints nothing that lives after."""
    made = add_account(world.house, "new", PASSWORD)
    _meanwhile(world, monkeypatch, lambda: set_password(world.house, "new", "another long one"))
    with pytest.raises(NotSignedIn) as refused:
        sign_in(world.house, Tries(), "new", PASSWORD, "", "127.0.0.1")
    assert refused.value.code == "bad_credentials"
    assert world.house.store.tokens(made.id) == []
    assert names(world, made.id)[1:] == ["account.password_set", "token.made", "token.ended"]


def test_sign_in_in_flight_that_survives_disabling(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account disabled while its password was verified has no token when enabled again."""
    made = add_account(world.house, "new", PASSWORD)
    before = world.house.store.principal

    def disabled_after_the_look(name: str) -> Principal:
        found = before(name)
        monkeypatch.setattr(world.house.store, "principal", before)
        disable(world.house, "new")
        return found

    monkeypatch.setattr(world.house.store, "principal", disabled_after_the_look)
    with pytest.raises(NotSignedIn):
        sign_in(world.house, Tries(), "new", PASSWORD, "", "127.0.0.1")
    enable(world.house, "new")
    assert world.house.store.tokens(made.id) == []


def test_old_hash_written_back_by_a_sign_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash made stronger on sign-in never undoes a reset that came between."""
    add_account(world.house, "new", PASSWORD)

    class Weaker:
        def check_needs_rehash(self, hashed: str) -> bool:
            monkeypatch.setattr(identity, "_HASHER", real)
            set_password(world.house, "new", "another long one")
            return True

        def verify(self, hashed: str, password: str) -> bool:
            return real.verify(hashed, password)

    real = identity._HASHER
    monkeypatch.setattr(identity, "_HASHER", Weaker())
    text, _ = sign_in(world.house, Tries(), "new", PASSWORD, "", "127.0.0.1")
    with pytest.raises(NotSignedIn):
        who(world.house, text)
    with pytest.raises(NotSignedIn):
        sign_in(world.house, Tries(), "new", PASSWORD, "", "127.0.0.1")
    assert sign_in(world.house, Tries(), "new", "another long one", "", "127.0.0.1")


def test_weak_hash_that_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing in makes a hash of weaker parameters anew, and the password still fits."""
    add_account(world.house, "new", PASSWORD)
    old = world.house.store.account("new")
    monkeypatch.setattr(identity, "_HASHER", PasswordHasher(time_cost=4, memory_cost=65_536))
    sign_in(world.house, Tries(), "new", PASSWORD, "", "127.0.0.1")
    new = world.house.store.account("new")
    assert old and new and new.password_hash != old.password_hash
    assert sign_in(world.house, Tries(), "new", PASSWORD, "", "127.0.0.1")


def test_password_changed_and_not_on_record(world: World) -> None:
    """A reset is sealed in the principal's chain, with who did it and without the password."""
    made = add_account(world.house, "new", PASSWORD)
    set_password(world.house, "new", "another long one", by=world.who("op").id)
    leaf = world.house.store.events(made.id)[-1][1]
    event = read_event(leaf)
    assert (event.name, event.data["principal"]) == ("account.password_set", made.id)
    assert event.actor == event.data["by"] == world.who("op").id
    assert b"another" not in leaf and b"argon2" not in leaf
    set_password(world.house, "new", PASSWORD)
    assert read_event(world.house.store.events(made.id)[-1][1]).data["by"] == SYSTEM


@pytest.mark.parametrize(
    "mail",
    [
        "an\ufe0fa@x.invalid",
        "ana\u034f@x.invalid",
        "\u0430na@x.invalid",
        "ana@b\u00fccher.invalid",
        '"ana"@x.invalid',
        "(x)ana@x.invalid",
        "<ana@x.invalid>",
        "a..na@x.invalid",
        ".ana@x.invalid",
        "ana@x..invalid",
        "ana@-x.invalid",
        "ana@x.invalid.",
        "ana@[127.0.0.1]",
        "a" * 65 + "@x.invalid",
        "ana@" + "x" * 64,
        "ana",
        "@x",
    ],
)
def test_mail_address_of_a_second_spelling(world: World, mail: str) -> None:
    """A new account's address is plain ASCII: look-alikes are never somebody else."""
    with pytest.raises(AskedWrongly) as refused:
        add_account(world.house, "new", PASSWORD, "New", mail)
    assert refused.value.code == "bad_mail"
    assert world.house.store.account("new") is None


@pytest.mark.parametrize("mail", ["o'neil+x@x.invalid", "A.B_c-d@xn--bcher-kva.invalid", "op@mx"])
def test_plain_mail_address_refused(world: World, mail: str) -> None:
    """Ordinary addresses are taken, as they were typed."""
    made = add_account(world.house, "new", PASSWORD, "Zoé Ångström", mail)
    assert world.house.store.text(made.mail) == mail


def _meanwhile(world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Let `change` happen right after the next password was verified."""
    real = identity._verify

    def verify(hashed: str, password: str) -> bool:
        monkeypatch.setattr(identity, "_verify", real)
        fits = real(hashed, password)
        change()
        return fits

    monkeypatch.setattr(identity, "_verify", verify)


def test_somebody_s_name_stands_in_the_log_for_ever(world: World) -> None:
    """Neither login, name nor address of an account is in any leaf: only commitments are."""
    add_account(world.house, "gudrun.k", PASSWORD, "Gudrun K", "gudrun@x.invalid")
    leaves = b"".join(leaf for _, leaf in world.house.store.all_events())
    assert b"udrun" not in leaves
