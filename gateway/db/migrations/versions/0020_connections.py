"""connections, each with the number of its last commit"""

import sqlalchemy as sa
from alembic import op

revision = "0020_connections"
down_revision = "0019_work_dir"


def upgrade() -> None:
    op.create_table(
        "connection",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("commits", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
    )
