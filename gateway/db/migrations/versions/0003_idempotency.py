"""requests that are done once, and what a turn was asked for"""

import sqlalchemy as sa
from alembic import op

revision = "0003_idempotency"
down_revision = "0002_deliver"


def upgrade() -> None:
    op.create_table(
        "idempotency",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_idempotency_expires_at", "idempotency", ["expires_at"])
    op.add_column("turn", sa.Column("digest", sa.String(), nullable=True))
    op.create_index("ix_turn_digest", "turn", ["digest"])
