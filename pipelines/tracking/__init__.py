"""Tracking: what a run says, carried to MLflow by one uploader beside the driver."""
