"""The agent: looks at the machine, and writes the sessions that it finds to the store."""
