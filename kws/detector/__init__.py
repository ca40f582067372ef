"""What is exported: front end, model and smoothing as one streaming detector."""
