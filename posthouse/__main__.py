"""The `posthouse` command. The version is answered before anything heavier than this module is imported."""

from __future__ import annotations

import sys

from posthouse import __version__


def main() -> None:
    """Runs the command line of this process and exits with its code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        sys.stdout.write(f"posthouse {__version__}\n")
        return
    from posthouse.cli.root import root

    root.main(prog_name="posthouse")


if __name__ == "__main__":
    main()
