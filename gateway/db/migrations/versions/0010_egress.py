"""what an agent may reach"""

import sqlalchemy as sa
from alembic import op

revision = "0010_egress"
down_revision = "0009_sessions"


def upgrade() -> None:
    op.add_column("agent_version", sa.Column("egress", sa.JSON(), nullable=False, server_default='"all"'))
    op.add_column("agent_version", sa.Column("egress_mode", sa.Text(), nullable=False, server_default="strict"))
