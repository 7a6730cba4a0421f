"""Tasks carried out elsewhere: `submit(task, resources)` gives a future. Local processes are one way; see `executor`."""
