"""where an agent runs"""

import sqlalchemy as sa
from alembic import op

revision = "0004_placement"
down_revision = "0003_steer"


def upgrade() -> None:
    op.add_column("agent_version", sa.Column("placement", sa.Text(), nullable=False, server_default="local"))
