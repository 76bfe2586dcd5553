"""One token bucket a cloud account."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "paces",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("slow_until_ms", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    """Drop it: nothing but pace is lost."""
    op.drop_table("paces")
