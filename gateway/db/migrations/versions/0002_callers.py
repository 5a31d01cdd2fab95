"""callers, their active tasks, and the extended card"""

import sqlalchemy as sa
from alembic import op

revision = "0002_callers"
down_revision = "0002_face"


def upgrade() -> None:
    op.create_table(
        "caller",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("key_hash", sa.String(), nullable=False),
        sa.Column("agents", sa.JSON(), nullable=True),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("running_tasks", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("rotated_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_id"),
    )
    with op.batch_alter_table("caller", schema=None) as batch_op:
        batch_op.create_index(
            "ux_caller_name",
            ["name"],
            unique=True,
            sqlite_where=sa.text("revoked_at IS NULL"),
            postgresql_where=sa.text("revoked_at IS NULL"),
        )

    active = sa.text("state IN ('submitted', 'working')")
    op.create_index("ix_task_active", "task", ["principal"], sqlite_where=active, postgresql_where=active)
    op.add_column("agent_version", sa.Column("extended", sa.JSON(), nullable=True))
