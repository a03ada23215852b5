"""Networks and weights. Imports neither runner nor pipelines."""
