"""`python -m agent` is the command `reeve`."""

from agent.cli import main

if __name__ == "__main__":
    main()
