"""leases of turns, and whether a turn's process may have been started"""

import sqlalchemy as sa
from alembic import op

revision = "0008_leases"
down_revision = "0007_limits"


def upgrade() -> None:
    op.add_column("turn", sa.Column("lease_until", sa.BigInteger(), nullable=True))
    op.add_column("turn", sa.Column("begun", sa.Boolean(), nullable=False, server_default=sa.false()))
