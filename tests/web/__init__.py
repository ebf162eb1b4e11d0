"""The page in a browser, the JSON, TLS and basic auth."""
