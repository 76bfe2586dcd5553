"""Which errands were answered: none is answered twice, by no process and after no restart."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One small table; marks leave it an hour after their errand ran out."""
    op.create_table(
        "errands_used",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("errands_used_until", "errands_used", ["until_ms"])


def downgrade() -> None:
    """Drop it: each process still knows what it answered itself."""
    op.drop_table("errands_used")
