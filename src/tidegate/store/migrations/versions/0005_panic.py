"""Panics: what was ended all at once, and what stays shut since."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "panics",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("called_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("frozen_until_ms", sa.BigInteger()),
        sa.Column("lifted_at_ms", sa.BigInteger()),
        sa.Column("grants", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
    )
    op.create_index("panics_state", "panics", ["state"])
    op.create_index("panics_frozen", "panics", ["frozen_until_ms"])


def downgrade() -> None:
    """Drop it: it is rebuilt from events."""
    op.drop_table("panics")
