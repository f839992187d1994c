"""`python -m inferwatt` is `inferwatt`: for children of the demo, and where the script is not on the path."""

from inferwatt.cli import main

if __name__ == "__main__":
    main()
