"""The chapter's pictures (gallery) and published results computed again (reproductions); see the command `gdcore`."""
