"""The steps themselves: plain functions over paths and typed configs. Nothing here knows an orchestrator."""
