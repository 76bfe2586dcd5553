"""The tables: one chain of migrations builds them, `rows.py` fills them.

Common subset of SQLite and PostgreSQL. Instants are `*_ms` (milliseconds since the epoch),
durations `*_seconds`, lists canonical JSON text. Some columns are the worker's own and are not
rebuilt from events: they are marked, and nothing is decided by them but when to look.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

# BIGINT would not become SQLite's rowid, and each event would be stored through a second index.
IDX = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()

log_head = Table(
    "log_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("origin", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("tree", LargeBinary, nullable=False),  # frontier and edge: evidence.tiles.Tree
    Column("checkpoint", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="log_head_one"),
)

events = Table(
    "events",
    metadata,
    Column("idx", IDX, primary_key=True, autoincrement=False),
    Column("subject", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("subject", "seq", name="events_chain"),
)

event_bytes = Table(
    "event_bytes",
    metadata,
    Column("idx", IDX, primary_key=True, autoincrement=False),
    Column("bytes", LargeBinary, nullable=False),
)

tiles = Table(
    "tiles",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

chain_heads = Table(
    "chain_heads",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("head", Text, nullable=False),
    sqlite_with_rowid=False,
)

disclosures = Table(
    "disclosures",
    metadata,
    Column("commitment", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("salt", LargeBinary),  # salt and text are null once erased
    Column("text", Text),
    sqlite_with_rowid=False,
)

documents = Table(
    "documents",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("bytes", LargeBinary, nullable=False),
)

principals = Table(
    "principals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("mail", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    UniqueConstraint("issuer", "subject", name="principals_natural"),
)

memberships = Table(
    "memberships",
    metadata,
    Column("id", Text, primary_key=True),
    Column("principal", Text, nullable=False),
    Column("group_name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("first_seen_at_ms", BigInteger, nullable=False),
    Column("last_seen_at_ms", BigInteger, nullable=False),
    Column("has_left", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Index("memberships_principal", "principal"),
    Index("memberships_group", "group_name"),
)

requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("items", Text, nullable=False),
    Column("duration_seconds", BigInteger, nullable=False),
    Column("start_ms", BigInteger),
    Column("reason", Text, nullable=False),
    Column("ticket", Text),
    Column("emergency", Boolean, nullable=False),
    Column("rules_digest", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("filed_at_ms", BigInteger, nullable=False),
    Column("decide_by_ms", BigInteger, nullable=False),
    Column("decided_at_ms", BigInteger),
    Column("votes", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("extends", Text),  # the grant whose end it would move; null: a plain request
    Column("extends_from_ms", BigInteger),
    Column("extends_until_ms", BigInteger),
    Column("applied_at_ms", BigInteger),
    Column("version", BigInteger, nullable=False),
    Index("requests_state", "state", "id"),
    Index("requests_principal", "principal", "id"),
    Index(
        "requests_undecided",
        "decide_by_ms",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index(
        "requests_extending",
        "extends",
        sqlite_where=text("extends IS NOT NULL"),
        postgresql_where=text("extends IS NOT NULL"),
    ),
    Index(  # approved extensions whose grant's end has not moved
        "requests_moving",
        "id",
        sqlite_where=text("extends IS NOT NULL AND state = 'approved' AND applied_at_ms IS NULL"),
        postgresql_where=text(
            "extends IS NOT NULL AND state = 'approved' AND applied_at_ms IS NULL"
        ),
    ),
)

grants = Table(
    "grants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("request", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("role_digest", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("opens_at_ms", BigInteger, nullable=False),
    Column("claim_by_ms", BigInteger, nullable=False),
    Column("duration_seconds", BigInteger, nullable=False),
    Column("start_ms", BigInteger),
    Column("ends_at_ms", BigInteger),
    Column("assignment", Text, nullable=False),
    Column("exposure_seconds", BigInteger, nullable=False),
    Column("opened_at_ms", BigInteger),
    Column("closing_at_ms", BigInteger),
    Column("end_reason", Text, nullable=False),
    Column("removed_at_ms", BigInteger),
    Column("residual_until_ms", BigInteger),
    Column("gone_at_ms", BigInteger),
    Column("proof", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("tries", BigInteger, nullable=False),
    Column("sessions", BigInteger, nullable=False),
    Column("still_held_by", Text, nullable=False),
    Column("unattended_seconds", BigInteger),  # null: no bound
    Column("cut", Boolean, nullable=False, server_default=text("false")),
    Column("cut_before_ms", BigInteger),
    Column("searched", Text, nullable=False, server_default=text("''")),
    Column("grace_seconds", BigInteger, nullable=False, server_default="0"),
    Column("held_since_ms", BigInteger),
    Column("extended_seconds", BigInteger, nullable=False, server_default="0"),
    Column("arming", Boolean, nullable=False, server_default=text("false")),
    Column("warned", Boolean, nullable=False, server_default=text("false")),
    Column("acted", Boolean, nullable=False, server_default=text("false")),
    Column("version", BigInteger, nullable=False),
    Column("risk", Integer, nullable=False, server_default=text("0")),
    Column("due_at_ms", BigInteger),  # the worker's: when to look next; null once it is over
    Column("lease_until_ms", BigInteger),  # the worker's: somebody is looking until then
    Column("lease_by", Text),  # the worker's: the name of whoever is looking
    Column("target", Text, nullable=False, server_default=text("''")),  # the worker's: of its role
    Column("lane", Integer, nullable=False, server_default=text("3")),  # the worker's: rows.LANES
    Index("grants_request", "request"),
    Index("grants_principal", "principal", "id"),
    Index("grants_role", "role", "id"),
    Index("grants_state", "state", "id"),
    Index("grants_ends", "ends_at_ms"),
    Index("grants_removed", "removed_at_ms"),
    Index("grants_assignment", "assignment"),
    Index(  # ends that came early: their cut stands until the end
        "grants_cut_early",
        "ends_at_ms",
        sqlite_where=text("closing_at_ms < ends_at_ms"),
        postgresql_where=text("closing_at_ms < ends_at_ms"),
    ),
    Index(
        "grants_leased",
        "lease_by",
        sqlite_where=text("lease_by IS NOT NULL"),
        postgresql_where=text("lease_by IS NOT NULL"),
    ),
    Index(
        "grants_unwarned",
        "ends_at_ms",
        sqlite_where=text("state = 'open' AND warned = false"),
        postgresql_where=text("state = 'open' AND warned = false"),
    ),
    Index(
        "grants_arming",
        "id",
        sqlite_where=text("state = 'open' AND arming = true"),
        postgresql_where=text("state = 'open' AND arming = true"),
    ),
    Index(
        "grants_due",
        "lane",
        "due_at_ms",
        sqlite_where=text("due_at_ms IS NOT NULL"),
        postgresql_where=text("due_at_ms IS NOT NULL"),
    ),
    Index(  # whose turn it is when more is due than one look can rank
        "grants_turn",
        "lane",
        "target",
        "risk",
        "due_at_ms",
        sqlite_where=text("due_at_ms IS NOT NULL AND lane < 3"),
        postgresql_where=text("due_at_ms IS NOT NULL AND lane < 3"),
    ),
    Index(  # what has an end and no sealed one yet
        "grants_ending",
        "ends_at_ms",
        sqlite_where=text("state IN ('open', 'intended')"),
        postgresql_where=text("state IN ('open', 'intended')"),
    ),
)

assignments = Table(
    "assignments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("connector", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("native_role", Text, nullable=False),
    Column("native_principal", Text, nullable=False),
    Column("holders", Text, nullable=False),
    Column("deadline_at_ms", BigInteger, nullable=False),
    Column("stood_before", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    UniqueConstraint(
        "connector", "account", "native_role", "native_principal", name="assignments_natural"
    ),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("grant_id", Text, nullable=False),  # `grant` is a reserved word of SQL
    Column("request", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("issued_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("bound_until_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("why", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Index("sessions_grant", "grant_id"),
    Index("sessions_key", "key_id"),
)

findings = Table(
    "findings",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("sort", Text, nullable=False),
    Column("says", Text, nullable=False),
    Column("remedy", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("grant_id", Text, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("assigned_to", Text, nullable=False),
    Column("times", BigInteger, nullable=False),
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("closed_at_ms", BigInteger),
    Column("closed_how", Text, nullable=False),
    Column("closed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("accepted_until_ms", BigInteger),
    Column("version", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),  # the worker's: the last look that saw it
    UniqueConstraint("kind", "target", "what", name="findings_natural"),
    Index("findings_target", "target", "id"),
    Index("findings_grant", "grant_id"),
    Index("findings_state", "state", "id"),
    Index(
        "findings_accepted",
        "accepted_until_ms",
        sqlite_where=text("accepted_until_ms IS NOT NULL"),
        postgresql_where=text("accepted_until_ms IS NOT NULL"),
    ),
)

baselines = Table(
    "baselines",
    metadata,
    Column("id", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("native_role", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("taken_at_ms", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
)

# Whose turn something is, and how far it came: the worker's own, never rebuilt.
turns = Table(
    "turns",
    metadata,
    Column("name", Text, primary_key=True),
    Column("due_at_ms", BigInteger, nullable=False),
    Column("lease_until_ms", BigInteger),
    Column("place", Text, nullable=False),
    Column("tries", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

panics = Table(
    "panics",
    metadata,
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("called_at_ms", BigInteger, nullable=False),
    Column("frozen_until_ms", BigInteger),
    Column("lifted_at_ms", BigInteger),
    Column("grants", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Index("panics_state", "state"),
    Index("panics_frozen", "frozen_until_ms"),
    Index("panics_scope", "scope", "name"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("made_at_ms", BigInteger, nullable=False),
    Column("payload", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("delivered_at_ms", BigInteger),  # the deliverer's: null until somebody was told
    Index("outbox_audience", "audience", "id"),
)

accounts = Table(
    "accounts",
    metadata,
    Column("login", Text, primary_key=True),
    Column("principal", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("made_at_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    UniqueConstraint("hash", name="tokens_hash"),
    Index("tokens_principal", "principal"),
)

errands = Table(
    "errands",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("duty", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked", Text, nullable=False),
    Column("reader", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("taken_by", Text, nullable=False),
    Column("reply", Text, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("proof", Text, nullable=False),
)

errands_used = Table(
    "errands_used",
    metadata,
    Column("id", Text, primary_key=True),
    Column("until_ms", BigInteger, nullable=False),
    Index("errands_used_until", "until_ms"),
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
)

paces = Table(
    "paces",
    metadata,
    Column("name", Text, primary_key=True),
    Column("tokens", BigInteger, nullable=False),  # thousandths
    Column("at_ms", BigInteger, nullable=False),
    Column("slow_until_ms", BigInteger, nullable=False),
)
