"""Lists, pages, and the small rows beside the state."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from tidegate.base.errors import NotFound, WorldFailed
from tidegate.base.fact import Change, Step
from tidegate.base.ids import GRANT, PRINCIPAL, SESSION
from tidegate.base.personal import Personal
from tidegate.catalogue import evolve_principal
from tidegate.grant import GrantState
from tidegate.request import RequestState, withdraw
from tidegate.store import Account, Token

from .making import NOW, filed, joined, lifecycle, name, one_batch, person, readied

TOKEN = Token(
    id="tk_1",
    hash="h" * 64,
    principal="pr_ana",
    label="laptop",
    made_at=NOW,
    until=NOW + timedelta(days=30),
)


def test_unknown_id_is_not_found_in_words(store):
    """The message names what was expected and what came."""
    with pytest.raises(NotFound, match="expected the id of a grant, got `rq_x`"):
        store.grant("rq_x")
    with pytest.raises(NotFound, match="request"):
        store.request("x")
    with pytest.raises(NotFound, match="principal"):
        store.principal("x")
    assert store.assignment("x") is None


def test_requests_come_newest_first_in_pages(store):
    """Pages by the last id seen cover everything once."""
    with one_batch(store):
        for number in range(7):
            store.submit(filed(number)[0])
    first = store.requests(limit=3)
    second = store.requests(limit=3, before=first[-1].id)
    third = store.requests(limit=3, before=second[-1].id)
    ids = [one.id for one in (*first, *second, *third)]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 7


def test_requests_are_filtered(store):
    """By state and by who asked; no states at all is no request."""
    step, request = filed(1)
    store.commit(step)
    store.commit(filed(2)[0])
    store.commit(withdraw(request, NOW))
    assert [one.id for one in store.requests(states=frozenset({RequestState.WITHDRAWN}))] == [
        request.id
    ]
    assert len(store.requests(principal=request.terms.principal)) == 2
    assert store.requests(principal="pr_other") == []
    assert store.requests(states=frozenset()) == []


def test_grants_that_are_gone_are_told_from_the_others(store):
    """Of those named, and no others; one that is not there is not gone."""
    step, request = filed(1)
    store.commit(step)
    step, ready = readied(1, request)
    store.commit(step)
    over = lifecycle(store, 2)
    assert store.grants_ending((ready.id, over.id, "gr_x")) == {over.id: GrantState.GONE}
    assert store.grants_ending((ready.id,)) == store.grants_ending(()) == {}


def test_grants_are_filtered(store):
    """By request, holder, role, target and state; a target is a whole name, not a beginning."""
    step, request = filed(1)
    store.commit(step)
    step, ready = readied(1, request)
    store.commit(step)
    over = lifecycle(store, 2)
    assert [one.id for one in store.grants(request=request.id)] == [ready.id]
    assert store.grants(states=frozenset({GrantState.GONE})) == [over]
    assert len(store.grants(target="aws-prod")) == 2
    assert store.grants(target="aws-pro") == store.grants(target="aws") == []
    assert len(store.grants(role=ready.role, principal=ready.principal)) == 2
    assert store.grants(role="aws-prod/other") == []
    assert store.grants(before=name(GRANT, 2)) == [ready]


def test_lists_are_bounded(store, monkeypatch):
    """No limit a caller names makes one list grow without end."""
    monkeypatch.setattr("tidegate.store.reads.MOST_ROWS", 2)
    with one_batch(store):
        for number in range(4):
            store.submit(filed(number)[0])
    assert len(store.requests(limit=1_000_000)) == 2
    assert store.requests(limit=-1) == []


def test_session_is_found_by_its_key_id(store):
    """The cloud's trail names a key id; it leads back to the session."""
    grant = lifecycle(store, 1)
    assert store.session_by_key("ASIA1").id == name(SESSION, 1)
    assert store.session_by_key("ASIA2") is None
    assert [one.grant for one in store.sessions(grant.id)] == [grant.id]


def test_principals_and_memberships_are_listed(store):
    """People by id and by who vouches for them, memberships by who."""
    store.commit(person(1, "ana"))
    store.commit(person(2, "bo"))
    store.commit(joined(1, "sre"))
    store.commit(joined(2, "sre"))
    store.commit(joined(2, "dba"))
    assert store.principal(name(PRINCIPAL, 2)).subject == "bo"
    assert len(store.memberships()) == 3
    assert {one.group for one in store.memberships(principal=name(PRINCIPAL, 2))} == {"sre", "dba"}
    assert store.principal_by("local", "cy") is None


def test_document_is_kept_once_under_its_digest(store):
    """Content-addressed: the same bytes have one name, and an unknown name has no bytes."""
    digest = store.keep_document("rules", b"permit;")
    assert store.keep_document("rules", b"permit;") == digest
    assert store.document(digest) == b"permit;"
    assert store.document("sha256:none") is None


def test_account_keeps_its_newest_password(store):
    """Putting an account again replaces its hash; the hash is not shown."""
    account = Account(login="ana", principal="pr_ana", password_hash="$argon2id$one")
    store.put_account(account)
    store.put_account(replace(account, password_hash="$argon2id$two"))
    assert store.account("ana").password_hash == "$argon2id$two"
    assert store.account("bo") is None
    assert "argon2id" not in repr(account)


def test_token_ends_once(store):
    """A token keeps its first end, and is found by the hash of its secret."""
    store.put_token(TOKEN)
    assert store.token_by_hash(TOKEN.hash) == TOKEN
    store.end_token(TOKEN.id, NOW)
    store.end_token(TOKEN.id, NOW + timedelta(hours=1))
    assert store.token_by_hash(TOKEN.hash).ended_at == NOW
    assert store.tokens("pr_ana") == [store.token_by_hash(TOKEN.hash)]
    assert store.token_by_hash("other") is None
    assert TOKEN.hash not in repr(TOKEN)


def test_token_made_twice_fails_alone(store):
    """A clash of a small row undoes that row only: Steps in its batch are stored."""
    store.put_token(TOKEN)
    with one_batch(store):
        step = store.submit(filed(1)[0])
        clash = store._writer._put(_beat_and_clash)
    assert isinstance(clash.exception(), store._database.clashes)
    assert store.beats() == {}
    assert step.result().first_idx == 0
    with pytest.raises(RuntimeError, match="there already"):
        store.put_token(TOKEN)


def _beat_and_clash(db):
    db.execute("INSERT INTO heartbeats VALUES ('undone', 0, '')")
    db.execute("INSERT INTO tokens SELECT * FROM tokens")


def test_heartbeat_is_the_newest(store):
    """Each name keeps its last sign of life."""
    store.beat("worker", NOW, "")
    store.beat("worker", NOW + timedelta(seconds=2), "busy")
    assert store.beats() == {"worker": (NOW + timedelta(seconds=2), "busy")}


@pytest.mark.only("sqlite")
def test_clock_of_the_store_is_whole_milliseconds(store, clock):
    """On SQLite the database's clock is this process's, cut to what the wire carries."""
    clock.now = NOW + timedelta(microseconds=2_999)
    assert store.now() == NOW + timedelta(milliseconds=2)


def test_unreadable_row_is_told_as_a_bug(store, path):
    """A row nobody of ours wrote is a fault of the world, by name; lists of work go on without."""
    step, request = filed(1)
    store.commit(step)
    store.commit(filed(2)[0])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE requests SET items = '[{}]' WHERE id = ?", (request.id,))
    with pytest.raises(WorldFailed, match=request.id) as told:
        store.request(request.id)
    assert told.value.code == "row_unreadable"
    assert request.id not in [one.id for one in store.lapsed(request.decide_by, 10)]
    assert len(store.lapsed(request.decide_by, 10)) == 1


def test_row_changed_by_hand_is_not_read_as_it_was(store, path):
    """What a row was read as is handed out again only for the very same values, version or not."""
    step, request = filed(1)
    store.commit(step)
    assert store.request(request.id) is store.request(request.id)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE requests SET state = 'denied' WHERE id = ?", (request.id,))
    assert store.request(request.id).state is RequestState.DENIED


def test_someone_is_a_person_with_groups_and_an_address_that_can_be_erased(store):
    """One question says what three do; a group that was left is told as left."""
    who, mail = name(PRINCIPAL, 1), Personal(b"s" * 32, "ana@x.invalid")
    step = person(1, "ana")
    fact = replace(step.facts[0], data={**step.facts[0].data, "mail": mail.commitment})
    store.commit(Step((Change(0, evolve_principal(None, fact)),), (fact,), (mail,)))
    alone = store.someone(who)
    assert (alone.principal, alone.groups) == (store.principal(who), ())
    assert (alone.mail, store.text(mail.commitment)) == ("ana@x.invalid", "ana@x.invalid")
    store.commit(joined(1, "sre"))
    store.commit(joined(1, "dba"))
    (held,) = (one for one in store.memberships(principal=who) if one.group == "dba")
    store.commit(joined(1, "dba", held, "left"))
    assert set(store.someone(who).groups) == {("sre", False), ("dba", True)}
    assert "ana@" not in repr(store.someone(who))
    store._writer.run(lambda db: db.execute("UPDATE disclosures SET salt = NULL, text = NULL"))
    assert store.someone(who).mail is None
    with pytest.raises(NotFound, match="expected the id of a principal, got `pr_x`"):
        store.someone("pr_x")
