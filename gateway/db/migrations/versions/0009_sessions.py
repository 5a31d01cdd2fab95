"""what the session API keeps of a session, and the order it lists them in"""

import sqlalchemy as sa
from alembic import op

revision = "0009_sessions"
down_revision = "0008_fair"


def upgrade() -> None:

    op.add_column("session", sa.Column("meta", sa.JSON(), nullable=True))
    op.create_index("ix_session_listing", "session", ["principal", "created_at", "id"])
