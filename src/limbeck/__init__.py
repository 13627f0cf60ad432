"""Turns large models into small ones a shop can afford to run, and proves what was kept."""

