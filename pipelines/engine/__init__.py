"""The engine: steps, their identity, the plan, the store, and the driver that runs what is missing."""
