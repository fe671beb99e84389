"""``python -m bench``: fixes the surroundings, then runs the command line."""

from bench.environment import restart

if __name__ == "__main__":
    restart()
    from bench.cli import main

    raise SystemExit(main())
