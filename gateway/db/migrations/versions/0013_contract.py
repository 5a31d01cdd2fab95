"""runtimes that are images, and what they append"""

import sqlalchemy as sa
from alembic import op

revision = "0013_contract"
down_revision = "0012_sandbox_calls"


def upgrade() -> None:
    op.create_table(
        "pushed_runtime",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "runtime_version",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("providers", sa.JSON(), nullable=False),
        sa.Column("capabilities", sa.JSON(), nullable=False),
        sa.Column("env_names", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["pushed_runtime.name"]),
        sa.PrimaryKeyConstraint("name", "version"),
    )
    op.create_table(
        "runtime_event",
        sa.Column("turn_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("turn_id", "id"),
    )
    op.add_column("session", sa.Column("runtime_version", sa.Integer(), nullable=True))
