"""Songs in folders: layouts, checks, download, packing."""
