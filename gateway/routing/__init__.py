"""Pure values both planes agree on: snapshot, assignment, outcome, link messages. No I/O, no clock."""
