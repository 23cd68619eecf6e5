"""What every room uses and users do not import: checks, arguments, arrays, frames, labels. Imports no other room."""
