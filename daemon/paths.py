"""Where the state of a daemon lies."""

from pathlib import Path

from daemon.config import Config


def journal_path(config: Config) -> Path:
    """Return where the account of this configuration is journalled: one file per instance and kind of market."""
    return config.daemon.state_dir / f"{config.daemon.instance}-{config.market.source}.sqlite"
