"""Data sets: named ones, and a user's own points and images."""
