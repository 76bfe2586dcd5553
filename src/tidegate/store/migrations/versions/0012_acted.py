"""Grants that acted after their removal: only a refused try proves their end."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. What was tried before is told again by the next try."""
    op.add_column(
        "grants", sa.Column("acted", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    """Drop it: it is rebuilt from events."""
    op.drop_column("grants", "acted")
