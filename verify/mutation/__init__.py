"""The power of the checks: wrong files must be refused, and how many are is counted."""
