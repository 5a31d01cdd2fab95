"""Alembic's entry: run the migrations on the connection the program hands over."""

from alembic import context
from sqlmodel import SQLModel

import gateway.db.models  # fills the metadata
import gateway.deliver.models
import gateway.files.models
import gateway.hands.models
import gateway.idempotency
import gateway.log.models
import gateway.retention.models
import gateway.runtime_api.models
import gateway.turns.models  # noqa: F401
import registry.models  # noqa: F401

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True, transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
