"""leases of turns"""

import sqlalchemy as sa
from alembic import op

revision = "0011_leases"
down_revision = "0010_egress"


def upgrade() -> None:
    op.add_column("turn", sa.Column("lease_until", sa.BigInteger(), nullable=True))
