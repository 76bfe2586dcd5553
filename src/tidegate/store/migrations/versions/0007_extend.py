"""Ends may move and carry a grace; holders are warned, and notices wait in an outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the outbox. No end has moved yet, and nobody was warned."""
    for name in ("extends", "extends_from_ms", "extends_until_ms", "applied_at_ms"):
        kind = sa.Text() if name == "extends" else sa.BigInteger()
        op.add_column("requests", sa.Column(name, kind))
    _index("requests_extending", "requests", "extends", "extends IS NOT NULL")
    for name in ("grace_seconds", "extended_seconds"):
        zero = sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        op.add_column("grants", zero)
    op.add_column("grants", sa.Column("held_since_ms", sa.BigInteger()))
    for name in ("arming", "warned"):
        op.add_column(
            "grants", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())
        )
    op.execute(
        "UPDATE grants SET held_since_ms = ends_at_ms - duration_seconds * 1000"
        " WHERE ends_at_ms IS NOT NULL"
    )
    _index("grants_unwarned", "grants", "ends_at_ms", "state = 'open' AND warned = false")
    _index("grants_arming", "grants", "id", "state = 'open' AND arming = true")
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("made_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("delivered_at_ms", sa.BigInteger()),
    )
    op.create_index("outbox_audience", "outbox", ["audience", "id"])


def downgrade() -> None:
    """Drop them: but for what was delivered, they are rebuilt from events."""
    op.drop_table("outbox")
    for name in ("grants_arming", "grants_unwarned"):
        op.drop_index(name, "grants")
    for name in ("warned", "arming", "extended_seconds", "held_since_ms", "grace_seconds"):
        op.drop_column("grants", name)
    op.drop_index("requests_extending", "requests")
    for name in ("applied_at_ms", "extends_until_ms", "extends_from_ms", "extends"):
        op.drop_column("requests", name)


def _index(name: str, table: str, column: str, where: str) -> None:
    """An index of the rows that fit `where` alone, on either engine."""
    part = sa.text(where)
    op.create_index(name, table, [column], sqlite_where=part, postgresql_where=part)
