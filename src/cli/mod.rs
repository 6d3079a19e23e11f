//! The command line: parses, calls the layers below, renders what they say.
