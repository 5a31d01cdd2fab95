"""messages that join running turns, and interrupts"""

import sqlalchemy as sa
from alembic import op

revision = "0003_steer"
down_revision = "0003_destinations"


def upgrade() -> None:
    op.add_column("turn", sa.Column("steers", sa.String(), nullable=True))
    op.add_column("turn", sa.Column("interrupt_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    steers = sa.text("steers IS NOT NULL")
    op.create_index("ix_turn_steers", "turn", ["steers"], sqlite_where=steers, postgresql_where=steers)
