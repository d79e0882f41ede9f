"""Published models: the registry, and the cache they are fetched into."""
