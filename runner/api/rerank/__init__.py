"""Documents ranked by their relevance to a query, in the shape that Jina and Cohere share."""
