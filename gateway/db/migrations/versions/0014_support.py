"""how old the code may be that works with the schema"""

import sqlalchemy as sa
from alembic import op

revision = "0014_support"
down_revision = "0013_contract"


def upgrade() -> None:
    table = op.create_table(
        "schema_support",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("oldest", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(table, [{"id": 1, "oldest": revision}])
