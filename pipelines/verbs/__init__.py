"""What each verb of the command line does; `pipelines.cli` only parses and dispatches."""
