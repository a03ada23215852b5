"""The engine of picture models: requests planned, pipelines run step by step, pictures packed."""
