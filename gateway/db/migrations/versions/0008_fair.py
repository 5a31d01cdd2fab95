"""fair queueing"""

import sqlalchemy as sa
from alembic import op

revision = "0008_fair"
down_revision = "0007_limits"


def upgrade() -> None:
    op.add_column("turn", sa.Column("agent_id", sa.String(), nullable=True))
    op.add_column("turn", sa.Column("principal", sa.String(), nullable=True))
    op.add_column("turn", sa.Column("round", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("turn", sa.Column("aside", sa.String(), nullable=True))
    op.add_column("turn", sa.Column("settled", sa.Boolean(), nullable=False, server_default=sa.false()))
    whose = "(SELECT {0} FROM session WHERE session.id = turn.session_id)"
    op.execute(f"UPDATE turn SET agent_id = {whose.format('agent_id')}, principal = {whose.format('principal')}")
    op.execute("UPDATE turn SET settled = true WHERE state = 'ended'")
    queued, running = (sa.text(f"state = '{state}'") for state in ("queued", "running"))
    op.create_index("ix_turn_next", "turn", ["round", "queued_at"], sqlite_where=sa.text("state = 'queued' AND aside IS NULL"))
    op.create_index("ix_turn_waiting", "turn", ["session_id", "ordinal"], sqlite_where=queued)
    op.create_index("ix_turn_round", "turn", ["state", "round"])
    op.create_index("ix_turn_flow", "turn", ["agent_id", "principal", "round"])
    op.create_index("ix_turn_aside", "turn", ["agent_id", "aside", "round"], sqlite_where=queued)
    op.create_index("ix_turn_running", "turn", ["agent_id"], sqlite_where=running)
    op.create_index("ix_turn_unsettled", "turn", ["id"], sqlite_where=sa.text("state = 'ended' AND settled = false"))
