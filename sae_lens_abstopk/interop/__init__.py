"""Other projects' tools, run on signed SAEs."""
