"""Shared internals: checks, arguments, arrays, frames, labels. Not for users; imports no other package of gdcore."""
