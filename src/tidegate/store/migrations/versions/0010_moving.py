"""Which approved extensions wait for their grant's end to move: looked for at every tick."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

WAITING = "extends IS NOT NULL AND state = 'approved' AND applied_at_ms IS NULL"


def upgrade() -> None:
    """Add the index."""
    op.create_index(
        "requests_moving",
        "requests",
        ["id"],
        sqlite_where=sa.text(WAITING),
        postgresql_where=sa.text(WAITING),
    )


def downgrade() -> None:
    """Drop it: nothing but pace is lost."""
    op.drop_index("requests_moving", "requests")
