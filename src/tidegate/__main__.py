"""`python -m tidegate`."""

from tidegate.main import run

if __name__ == "__main__":
    run()
