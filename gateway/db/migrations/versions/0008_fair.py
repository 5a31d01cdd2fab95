"""fair queueing"""

import sqlalchemy as sa
from alembic import op

revision = "0008_fair"
down_revision = "0007_limits"

_INDEXES = (
    ("ix_turn_next", ["round", "queued_at"], "state = 'queued' AND aside IS NULL"),
    ("ix_turn_waiting", ["session_id", "ordinal"], "state = 'queued'"),
    ("ix_turn_round", ["state", "round"], None),
    ("ix_turn_flow", ["agent_id", "principal", "round"], None),
    ("ix_turn_aside", ["agent_id", "aside", "round"], "state = 'queued'"),
    ("ix_turn_running", ["agent_id"], "state = 'running'"),
    ("ix_turn_unsettled", ["id"], "state = 'ended' AND settled = false"),
)


def upgrade() -> None:
    op.add_column("turn", sa.Column("agent_id", sa.String(), nullable=True))
    op.add_column("turn", sa.Column("principal", sa.String(), nullable=True))
    op.add_column("turn", sa.Column("round", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("turn", sa.Column("aside", sa.String(), nullable=True))
    op.add_column("turn", sa.Column("settled", sa.Boolean(), nullable=False, server_default=sa.false()))
    whose = "(SELECT {0} FROM session WHERE session.id = turn.session_id)"
    op.execute(f"UPDATE turn SET agent_id = {whose.format('agent_id')}, principal = {whose.format('principal')}")
    op.execute("UPDATE turn SET settled = true WHERE state = 'ended'")
    for name, columns, where in _INDEXES:
        only = sa.text(where) if where else None
        op.create_index(name, "turn", columns, sqlite_where=only, postgresql_where=only)
