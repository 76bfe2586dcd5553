"""A lease says whose it is, so that a worker that is gone holds nothing up."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_LEASED = sa.text("lease_by IS NOT NULL")


def upgrade() -> None:
    """Add the column, and the way to the few rows that are leased."""
    op.add_column("grants", sa.Column("lease_by", sa.Text()))
    op.create_index(
        "grants_leased", "grants", ["lease_by"], sqlite_where=_LEASED, postgresql_where=_LEASED
    )


def downgrade() -> None:
    """Drop them: leases are no state."""
    op.drop_index("grants_leased", "grants")
    op.drop_column("grants", "lease_by")
