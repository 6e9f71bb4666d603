"""The HTTP routes: one blueprint a file. What they share stands here."""
