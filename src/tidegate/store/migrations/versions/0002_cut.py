"""Grants say what is exposed with nobody of ours alive, and whether live sessions were cut."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Grants made before ended by themselves: the two exposures were one."""
    op.add_column("grants", sa.Column("unattended_seconds", sa.BigInteger()))
    op.add_column(
        "grants", sa.Column("cut", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    op.add_column("grants", sa.Column("cut_before_ms", sa.BigInteger()))
    op.execute("UPDATE grants SET unattended_seconds = exposure_seconds")
    op.create_index("grants_removed", "grants", ["removed_at_ms"])
    op.create_index("grants_assignment", "grants", ["assignment"])


def downgrade() -> None:
    """Drop them: they are rebuilt from events."""
    op.drop_index("grants_assignment", "grants")
    op.drop_index("grants_removed", "grants")
    op.drop_column("grants", "cut_before_ms")
    op.drop_column("grants", "cut")
    op.drop_column("grants", "unattended_seconds")
