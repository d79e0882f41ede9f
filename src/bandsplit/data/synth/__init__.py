"""The song generator: composition, sound tools, and the players of each stem."""
