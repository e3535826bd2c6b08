"""`python -m fedminet`."""

from fedminet.main import run

if __name__ == "__main__":
    run()
