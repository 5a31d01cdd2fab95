"""limits of sessions, and what they have used"""

import sqlalchemy as sa
from alembic import op

revision = "0007_limits"
down_revision = "0006_file"


def upgrade() -> None:
    op.add_column("session", sa.Column("limits", sa.JSON(), nullable=True))
    op.add_column("session", sa.Column("spent", sa.JSON(), nullable=True))
