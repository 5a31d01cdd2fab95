"""the folder of its workspace in which an agent starts"""

import sqlalchemy as sa
from alembic import op

revision = "0019_work_dir"
down_revision = "0018_engines"


def upgrade() -> None:
    op.add_column("agent_version", sa.Column("work_dir", sa.Text(), nullable=False, server_default=sa.text("''")))
