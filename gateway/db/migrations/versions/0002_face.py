"""what an agent's card shows beside its description and skills

Every column has a default of the database, so that the release before can still write to it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002_face"
down_revision = "0001"


def upgrade() -> None:

    op.add_column("agent_version", sa.Column("provider", sa.JSON(), nullable=True))
    op.add_column("agent_version", sa.Column("documentation_url", sa.Text(), nullable=True))
    op.add_column("agent_version", sa.Column("icon_url", sa.Text(), nullable=True))
    for name in ("input_modes", "output_modes", "tags"):
        op.add_column("agent_version", sa.Column(name, sa.JSON(), nullable=False, server_default="[]"))
