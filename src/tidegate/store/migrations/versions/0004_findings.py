"""Findings with their owners, baselines of what stood before, and what a search came to."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables and the column."""
    op.add_column(
        "grants", sa.Column("searched", sa.Text(), nullable=False, server_default=sa.text("''"))
    )
    _findings()
    op.create_table(
        "baselines",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("native_role", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("taken_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "turns",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("due_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger()),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop them: they are rebuilt from events."""
    op.drop_table("turns")
    op.drop_table("baselines")
    op.drop_table("findings")
    op.drop_column("grants", "searched")


def _findings() -> None:
    op.create_table(
        "findings",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("sort", sa.Text(), nullable=False),
        sa.Column("says", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("assigned_to", sa.Text(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("closed_at_ms", sa.BigInteger()),
        sa.Column("closed_how", sa.Text(), nullable=False),
        sa.Column("closed_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("accepted_until_ms", sa.BigInteger()),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("kind", "target", "what", name="findings_natural"),
    )
    op.create_index("findings_target", "findings", ["target", "id"])
    op.create_index("findings_grant", "findings", ["grant_id"])
    op.create_index("findings_state", "findings", ["state", "id"])
    op.create_index(
        "findings_accepted",
        "findings",
        ["accepted_until_ms"],
        sqlite_where=sa.text("accepted_until_ms IS NOT NULL"),
        postgresql_where=sa.text("accepted_until_ms IS NOT NULL"),
    )
