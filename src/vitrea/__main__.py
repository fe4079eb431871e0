"""``python -m vitrea``."""

from vitrea.cli.main import main

raise SystemExit(main())
