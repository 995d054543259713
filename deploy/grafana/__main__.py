"""Writes the dashboards: python -m deploy.grafana.

They are made from the modules beside this one and from docs/runbook.md; a test compares what lies in dashboards/.
"""

from deploy.grafana.all import DASHBOARDS, texts


def main() -> None:
    """Write every dashboard, and delete those that are no more."""
    written = texts()
    for path in DASHBOARDS.glob("*.json"):
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (DASHBOARDS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
