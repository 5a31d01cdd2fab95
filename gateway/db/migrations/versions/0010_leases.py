"""leases of turns"""

import sqlalchemy as sa
from alembic import op

revision = "0010_leases"
down_revision = "0009_sessions"


def upgrade() -> None:
    op.add_column("turn", sa.Column("lease_until", sa.BigInteger(), nullable=True))
