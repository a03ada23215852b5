"""HTTP for the gateway and the runner: connections and their limits, access, middleware, OpenAPI."""
