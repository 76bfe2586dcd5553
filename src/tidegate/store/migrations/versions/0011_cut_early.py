"""Which ends came early, so that their cut stands until the end: looked for twice a minute."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

EARLY = "closing_at_ms < ends_at_ms"


def upgrade() -> None:
    """Add the index."""
    op.create_index(
        "grants_cut_early",
        "grants",
        ["ends_at_ms"],
        sqlite_where=sa.text(EARLY),
        postgresql_where=sa.text(EARLY),
    )


def downgrade() -> None:
    """Drop it: nothing but pace is lost."""
    op.drop_index("grants_cut_early", "grants")
