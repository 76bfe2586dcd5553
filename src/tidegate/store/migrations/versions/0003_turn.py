"""Grants know their risk, and wait in lines of their own by target."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TARGET = {
    "sqlite": "substr(role, 1, instr(role, '/') - 1)",
    "postgresql": "split_part(role, '/', 1)",
}
_DUE = sa.text("due_at_ms IS NOT NULL")
_TURN = sa.text("due_at_ms IS NOT NULL AND lane < 3")
_ENDING = sa.text("state IN ('open', 'intended')")


def upgrade() -> None:
    """Add the columns. Risk as grants sealed before it are rebuilt: from their exposures."""
    op.drop_index("grants_due", "grants")
    op.add_column(
        "grants", sa.Column("risk", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column(
        "grants", sa.Column("target", sa.Text(), nullable=False, server_default=sa.text("''"))
    )
    op.add_column(
        "grants", sa.Column("lane", sa.Integer(), nullable=False, server_default=sa.text("3"))
    )
    target = _TARGET[op.get_bind().dialect.name]
    op.execute(
        f"UPDATE grants SET target = {target},"  # noqa: S608 - our own words
        " lane = CASE state WHEN 'closing' THEN 0 WHEN 'removed' THEN 1 WHEN 'ready' THEN 2"
        " WHEN 'intended' THEN 2 ELSE 3 END,"
        " risk = CASE WHEN ends_at_ms IS NULL THEN 0 ELSE"
        " CASE WHEN unattended_seconds IS NULL THEN 4 ELSE 0 END"
        " + CASE WHEN exposure_seconds > 300 OR unattended_seconds > 300 THEN 1 ELSE 0 END END"
    )
    for name, columns, where in (
        ("grants_due", ["lane", "due_at_ms"], _DUE),
        ("grants_turn", ["lane", "target", "risk", "due_at_ms"], _TURN),
        ("grants_ending", ["ends_at_ms"], _ENDING),
    ):
        op.create_index(name, "grants", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Drop them: risk is rebuilt from events, the others from the row."""
    for name in ("grants_ending", "grants_turn", "grants_due"):
        op.drop_index(name, "grants")
    for name in ("lane", "target", "risk"):
        op.drop_column("grants", name)
    op.create_index("grants_due", "grants", ["due_at_ms"], sqlite_where=_DUE, postgresql_where=_DUE)
