"""recorded calls of sandbox tools"""

import sqlalchemy as sa
from alembic import op

revision = "0012_sandbox_calls"
down_revision = "0011_leases"


def upgrade() -> None:
    op.create_table(
        "sandbox_call",
        sa.Column("turn_id", sa.String(), nullable=False),
        sa.Column("call_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("tool", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("turn_id", "call_id"),
    )
