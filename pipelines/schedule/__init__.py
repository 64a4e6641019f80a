"""Scheduling: pipeline runs at the ticks of a cron text, each tick recorded once."""
