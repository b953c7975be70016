"""The benchmark: one load, two servers, side by side. Start with README.md; the program is bench/run.py."""
