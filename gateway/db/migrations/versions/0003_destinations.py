"""webhooks of a session beside the push configs, and runs of events in the outbox"""

import sqlalchemy as sa
from alembic import op

revision = "0003_destinations"
down_revision = "0003_idempotency"


def upgrade() -> None:

    op.add_column("push_config", sa.Column("level", sa.String(), nullable=True))
    op.add_column("push_config", sa.Column("types", sa.JSON(), nullable=True))
    op.create_index("ix_push_config_session", "push_config", ["session_id", "task_id"])

    op.add_column("outbox", sa.Column("upto", sa.BigInteger(), nullable=True))
    op.add_column("outbox", sa.Column("room", sa.Integer(), nullable=True))
    for name, columns, where in (
        ("ix_outbox_open", ["config_id", "pos"], sa.text("settled_at IS NULL")),
        ("ix_outbox_run", ["config_id"], sa.text("room IS NOT NULL")),
    ):
        op.create_index(name, "outbox", columns, sqlite_where=where, postgresql_where=where)
