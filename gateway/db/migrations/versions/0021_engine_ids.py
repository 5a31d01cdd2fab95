"""engines by their id: of workers, and of sandbox calls that may still run there"""

import sqlalchemy as sa
from alembic import op

revision = "0021_engine_ids"
down_revision = "0020_connections"


def upgrade() -> None:
    op.add_column("worker", sa.Column("engine_id", sa.String()))
    op.add_column("sandbox_call", sa.Column("engine", sa.String()))
