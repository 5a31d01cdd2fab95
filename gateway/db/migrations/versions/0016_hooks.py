"""repositories and hooks of agents"""

import sqlalchemy as sa
from alembic import op

revision = "0016_hooks"
down_revision = "0015_ground"


def upgrade() -> None:
    op.add_column("agent_version", sa.Column("git", sa.JSON(), nullable=True))
    op.add_column("agent_version", sa.Column("hooks", sa.JSON(), nullable=False, server_default="{}"))
