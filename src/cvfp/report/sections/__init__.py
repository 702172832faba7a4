"""The sections of a report, a module each: heading, words, tables and figures of one subject."""
