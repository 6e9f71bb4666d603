"""The kinds of session, one file each."""
