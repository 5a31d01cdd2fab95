"""turns that need a container engine, and whose answers"""

import sqlalchemy as sa
from alembic import op

revision = "0018_engines"
down_revision = "0017_lease_seconds"

_NEXT = sa.text("state = 'queued' AND aside IS NULL")


def upgrade() -> None:
    op.add_column("turn", sa.Column("engine", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_turn_engine", "turn", ["engine", "round", "queued_at"], sqlite_where=_NEXT, postgresql_where=_NEXT)
    op.create_table(
        "worker",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("engine", sa.Boolean(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
    )
