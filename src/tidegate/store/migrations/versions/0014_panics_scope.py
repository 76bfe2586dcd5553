"""Panics by what they are about: asked before each opening, however many there are."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("panics_scope", "panics", ["scope", "name"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("panics_scope", "panics")
