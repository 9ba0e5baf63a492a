"""The host evaluator: test blocks, settings and losses, computed with torch as they are read."""
