"""Drawing: requests to plans, a pipeline run step by step, pictures packed."""
