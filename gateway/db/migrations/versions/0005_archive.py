"""the archive: how much of a session's log went into it, and which files have it"""

import sqlalchemy as sa
from alembic import op

revision = "0005_archive"
down_revision = "0004_placement"


def upgrade() -> None:

    op.add_column("session", sa.Column("floor_seq", sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "archive",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("usage", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("pruned_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("session_id", "first_seq"),
    )
    where = sa.text("pruned_at IS NULL")
    op.create_index("ix_archive_unpruned", "archive", ["session_id"], sqlite_where=where, postgresql_where=where)
