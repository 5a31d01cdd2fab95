"""how long a lease is"""

import sqlalchemy as sa
from alembic import op

revision = "0017_lease_seconds"
down_revision = "0016_hooks"


def upgrade() -> None:
    op.add_column("turn", sa.Column("lease_seconds", sa.Float(), nullable=True))
