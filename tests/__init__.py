"""The tests, laid out like the packages that they test."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
