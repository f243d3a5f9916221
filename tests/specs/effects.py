"""For each argument that works, the test that observes its effect."""

EFFECTS: dict[str, str] = {}
