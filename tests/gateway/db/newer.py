"""A gateway of a release to come: the present one with one revision more. Also its migration, for the test itself.

python newer.py FOLDER      serve, with the migrations of that folder beside the present ones
"""

from __future__ import annotations

import sys
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from gateway.db import migrate

REVISION = "9000_newer"
EXPANDS = """
    op.add_column("turn", sa.Column("newer", sa.String(), nullable=False, server_default="n"))
    op.create_index("ix_turn_newer", "turn", ["newer"])
    op.create_table("newer", sa.Column("id", sa.String(), primary_key=True))
"""
CONTRACTS = """
    op.drop_index("ix_turn_aside", "turn")
    needs("9000_newer")
"""
_PRESENT = migrate.config


def write(folder: Path, changes: str) -> None:
    """Make a migration that follows the present ones."""
    head = ScriptDirectory.from_config(_PRESENT()).get_current_head()
    folder.mkdir()
    imports = "import sqlalchemy as sa\nfrom alembic import op\nfrom gateway.db.migrate import needs\n"
    ids = f"revision = {REVISION!r}\ndown_revision = {head!r}\n"
    (folder / f"{REVISION}.py").write_text(f"{imports}{ids}\n\ndef upgrade():{changes}", "utf-8")


def config_with(folder: Path) -> Config:
    cfg = _PRESENT()
    present = Path(str(cfg.get_main_option("script_location"))) / "versions"
    cfg.set_main_option("path_separator", "newline")
    cfg.set_main_option("version_locations", f"{present}\n{folder}")
    return cfg


if __name__ == "__main__":
    folder = Path(sys.argv.pop())
    migrate.config = lambda: config_with(folder)
    from gateway.__main__ import main

    raise SystemExit(main())
