"""what of the machine an agent is given"""

import sqlalchemy as sa
from alembic import op

revision = "0015_ground"
down_revision = "0014_support"


def upgrade() -> None:
    for name in ("mounts", "volumes", "security_opt"):
        op.add_column("agent_version", sa.Column(name, sa.JSON(), nullable=False, server_default="[]"))
