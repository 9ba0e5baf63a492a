"""One file a command; each defines `command`. Nothing heavy is imported at module level."""
